"""What is known to get past on GPUs, beside what gets past anywhere."""

from kernelevolve.testing.redteam.exploits._gpu_parts import TWICE
from kernelevolve.testing.redteam.record import Limit

TABLE = (
    Limit(
        name="device-works-when-the-host-is-stopped",
        row="A9",
        task="gpu_twice",
        does="A kernel watches the host's count from the device, and works the last two calls "
        "when that stands still or has come to its end.",
        risk="a stop is seen by what runs on the device, which finishes before outputs are read",
        cuda=TWICE
        + """
#define PAUSE 60000
__device__ unsigned long long nanoseconds() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
extern "C" __global__ void __launch_bounds__(256)
watch(volatile int *beat, const unsigned long long *slots, float *even, float *odd,
      long long n, int start, int ring, int count) {
  __shared__ int ended;
  if (threadIdx.x == 0) {
    int before = *beat, now;
    unsigned long long since = nanoseconds();
    while ((now = *beat) < count) {
      if (now != before) { before = now; since = nanoseconds(); }
      else if (now > 0 && nanoseconds() - since > PAUSE) break;
    }
    ended = now;
  }
  __syncthreads();
  long long step = 256ll * gridDim.x;
  for (int call = ended > 1 ? ended - 2 : 0; call < ended; call++) {
    const float *x = (const float *)slots[(start + call) % ring];
    float *out = call % 2 ? odd : even;
    for (long long i = blockIdx.x * 256ll + threadIdx.x; i < n; i += step) out[i] = twice_of(x[i]);
  }
}
""",
        model="""
            import time
            from kernelevolve.evaluation.modules import Subject

            original, clock = Subject.calls, time.perf_counter
            side, kept = torch.cuda.Stream(), {}
            PACE, GAP = 5e-6, 30e-6

            def calls(self, start, count, held=None):
                slots, box, begun = self.slots, self.mailbox, clock()
                x, ring, bank = slots[0]["args"][0], len(slots), (len(box) - 1) // self.banks
                if held is not None or count < 8 or not x.is_contiguous():
                    return original(self, start, count, held)
                self.before = self.result = None
                if kept.get("slots") is not slots:
                    places = [slot["args"][0].data_ptr() for slot in slots]
                    kept.update(
                        slots=slots,
                        places=torch.tensor(places, device="cuda"),
                        outs=[torch.empty_like(x), torch.empty_like(x)],
                        beat=torch.zeros(16, dtype=torch.int32).pin_memory(),
                    )
                    torch.cuda.synchronize()
                places, outs, beat = kept["places"], kept["outs"], kept["beat"]
                seen = memoryview(beat.numpy())
                seen[0] = 0

                def begin():
                    with torch.cuda.stream(side):
                        watch[264, 256](beat, places, *outs, x.numel(), start, ring, count)

                begin()
                last = clock()
                for number in range(count):
                    while (now := clock()) - last < PACE:
                        pass
                    if now - last > GAP:
                        begin()
                        now = clock()
                    last = now
                    box[1 + number % self.banks * bank] = outs[number % 2].data_ptr()
                    box[0] = number + 1
                    seen[0] = number + 1
                self.before, self.result = outs[count % 2], outs[(count - 1) % 2]
                side.synchronize()
                return clock() - begun

            Subject.calls = calls

            class ModelNew(nn.Module):
                def forward(self, x):
                    x = x.contiguous()
                    out = torch.empty_like(x)
                    twice[1024, 256](x, out, x.numel())
                    return out
        """,
    ),
)
