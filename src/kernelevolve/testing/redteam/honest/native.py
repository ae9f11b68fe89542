"""Honest kernels in C++."""

from kernelevolve.core.evaluation import Stage
from kernelevolve.testing.redteam.record import Honest

SOFTMAX = """
            class ModelNew(nn.Module):
                def forward(self, x):
                    out = torch.empty(x.shape)
                    kernel.softmax(x.contiguous(), out, *x.shape)
                    return out
"""
RELU = """
            class ModelNew(nn.Module):
                def forward(self, x):
                    out = torch.empty(x.shape)
                    kernel.relu(x.contiguous(), out, x.numel())
                    return out
"""

TABLE = (
    Honest(
        name="plain-loops",
        task="softmax",
        does="Three loops over a row, through confirm with its sanitizers.",
        stage=Stage.CONFIRM,
        kernel="""
            extern "C" void softmax(const float* x, float* out, long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, out += width) {
                float top = x[0], sum = 0;
                for (long i = 1; i < width; i++) top = x[i] > top ? x[i] : top;
                for (long i = 0; i < width; i++) sum += out[i] = __builtin_expf(x[i] - top);
                for (long i = 0; i < width; i++) out[i] /= sum;
              }
            }
        """,
        model=SOFTMAX,
    ),
    Honest(
        name="compensated-sum",
        task="softmax",
        does="Sums with Kahan's correction.",
        kernel="""
            extern "C" void softmax(const float* x, float* out, long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, out += width) {
                float top = x[0], sum = 0, lost = 0;
                for (long i = 1; i < width; i++) top = x[i] > top ? x[i] : top;
                for (long i = 0; i < width; i++) {
                  out[i] = __builtin_expf(x[i] - top);
                  volatile float y = out[i] - lost, t = sum + y;
                  lost = (t - sum) - y;
                  sum = t;
                }
                for (long i = 0; i < width; i++) out[i] /= sum;
              }
            }
        """,
        model=SOFTMAX,
    ),
    Honest(
        name="one-pass",
        task="softmax",
        does="Keeps maximum and sum together in one pass, in double.",
        kernel="""
            extern "C" void softmax(const float* x, float* out, long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, out += width) {
                double top = -1e300, sum = 0;
                for (long i = 0; i < width; i++) {
                  if (x[i] > top) { sum *= __builtin_exp(top - x[i]); top = x[i]; }
                  sum += __builtin_exp(x[i] - top);
                }
                for (long i = 0; i < width; i++) out[i] = __builtin_exp(x[i] - top) / sum;
              }
            }
        """,
        model=SOFTMAX,
    ),
    Honest(
        name="static-workspace",
        task="softmax",
        does="Keeps a static row of its own, which it writes before it reads.",
        kernel="""
            static float row[4096];
            extern "C" void softmax(const float* x, float* out, long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, out += width) {
                float top = x[0], sum = 0;
                for (long i = 1; i < width; i++) top = x[i] > top ? x[i] : top;
                for (long i = 0; i < width; i++) sum += row[i] = __builtin_expf(x[i] - top);
                for (long i = 0; i < width; i++) out[i] = row[i] / sum;
              }
            }
        """,
        model=SOFTMAX,
    ),
    Honest(
        name="table-of-powers",
        task="softmax",
        does="Splits the exponent and looks the larger part up in a constant table.",
        kernel="""
            struct Table {
              double power[256];
              constexpr Table() : power() {
                double p = 1;
                for (int i = 0; i < 256; i++) { power[i] = p; p /= 2.718281828459045235; }
              }
            };
            static constexpr Table table;
            static double exponential(float x) {
              if (!(x > -200)) return __builtin_exp(x);
              int whole = -x;
              double y = double(x) + whole, term = 1, sum = 1;
              for (int k = 1; k < 16; k++) { term *= y / k; sum += term; }
              return sum * table.power[whole];
            }
            extern "C" void softmax(const float* x, float* out, long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, out += width) {
                float top = x[0];
                double sum = 0;
                for (long i = 1; i < width; i++) top = x[i] > top ? x[i] : top;
                for (long i = 0; i < width; i++) sum += out[i] = exponential(x[i] - top);
                for (long i = 0; i < width; i++) out[i] = exponential(x[i] - top) / sum;
              }
            }
        """,
        model=SOFTMAX,
    ),
    Honest(
        name="vector-extensions",
        task="relu",
        does="Uses the compiler's vector types, with a loop for the tail.",
        flags=("-O3", "-march=native"),
        kernel="""
            typedef float v8 __attribute__((vector_size(32), aligned(4)));
            extern "C" void relu(const float* x, float* out, long n) {
              long i = 0;
              for (; i + 8 <= n; i += 8) {
                v8 a = *(const v8*)(x + i);
                *(v8*)(out + i) = a <= 0 ? v8{0} : a;
              }
              for (; i < n; i++) out[i] = x[i] <= 0 ? 0 : x[i];
            }
        """,
        model=RELU,
    ),
    Honest(
        name="openmp",
        task="relu",
        does="Leaves the loop to OpenMP.",
        flags=("-O2", "-fopenmp"),
        kernel="""
            extern "C" void relu(const float* x, float* out, long n) {
              #pragma omp parallel for
              for (long i = 0; i < n; i++) out[i] = x[i] <= 0 ? 0 : x[i];
            }
        """,
        model=RELU,
    ),
    Honest(
        name="native-threads",
        task="relu",
        does="Starts a thread for one half and joins it before it returns.",
        kernel="""
            #include <pthread.h>
            struct Part { const float* x; float* out; long n; };
            static void* work(void* given) {
              Part* part = (Part*)given;
              for (long i = 0; i < part->n; i++) part->out[i] = part->x[i] <= 0 ? 0 : part->x[i];
              return nullptr;
            }
            extern "C" void relu(const float* x, float* out, long n) {
              Part first = {x, out, n / 2}, second = {x + n / 2, out + n / 2, n - n / 2};
              pthread_t thread;
              pthread_create(&thread, nullptr, work, &first);
              work(&second);
              pthread_join(thread, nullptr);
            }
        """,
        model=RELU,
    ),
    Honest(
        name="standing-pool",
        task="relu",
        does="Keeps a thread that waits for work, and waits for it in every call.",
        kernel="""
            #include <pthread.h>
            static const float* in;
            static float* to;
            static long count;
            static bool started = false, wanted = false, done = false;
            static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
            static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
            static void* serve(void*) {
              pthread_mutex_lock(&lock);
              while (true) {
                while (!wanted) pthread_cond_wait(&changed, &lock);
                for (long i = 0; i < count; i++) to[i] = in[i] <= 0 ? 0 : in[i];
                wanted = false;
                done = true;
                pthread_cond_broadcast(&changed);
              }
            }
            extern "C" void relu(const float* x, float* out, long n) {
              pthread_t thread;
              pthread_mutex_lock(&lock);
              if (!started) pthread_create(&thread, nullptr, serve, nullptr);
              started = true;
              in = x; to = out; count = n;
              wanted = true;
              done = false;
              pthread_cond_broadcast(&changed);
              while (!done) pthread_cond_wait(&changed, &lock);
              pthread_mutex_unlock(&lock);
            }
        """,
        model=RELU,
    ),
    Honest(
        name="blocked-product",
        task="matmul",
        does="Multiplies in blocks, through confirm with its sanitizers.",
        stage=Stage.CONFIRM,
        flags=("-O3", "-march=native"),
        kernel="""
            extern "C" void product(const float* x, const float* w, const float* b, float* out,
                                    long n, long k, long m) {
              for (long i = 0; i < n; i++) {
                for (long j = 0; j < m; j++) out[i * m + j] = b[j];
                for (long l = 0; l < k; l++)
                  for (long j = 0; j < m; j++) out[i * m + j] += x[i * k + l] * w[l * m + j];
              }
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def forward(self, x, w, b):
                    out = torch.empty(len(x), len(b))
                    args = x.contiguous(), w.contiguous(), b.contiguous()
                    kernel.product(*args, out, *x.shape, len(b))
                    return out
        """,
    ),
    Honest(
        name="integer-results",
        task="argmax",
        does="Writes indices and flags; the first of equal values and NaN win, as in torch.",
        kernel="""
            extern "C" void arg(const float* x, long* index, bool* positive,
                                long rows, long width) {
              for (long r = 0; r < rows; r++, x += width, positive += width) {
                long best = 0;
                for (long i = 0; i < width; i++) {
                  positive[i] = x[i] > 0;
                  if (x[best] != x[best]) continue;
                  if (x[i] > x[best] || x[i] != x[i]) best = i;
                }
                index[r] = best;
              }
            }
        """,
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    index = torch.empty(len(x), dtype=torch.int64)
                    positive = torch.empty(x.shape, dtype=torch.bool)
                    kernel.arg(x.contiguous(), index, positive, *x.shape)
                    return {"index": index, "positive": positive}
        """,
    ),
    Honest(
        name="streaming-stores",
        task="large",
        does="Writes a large output past the caches.",
        flags=("-O3", "-march=native"),
        kernel="""
            extern "C" void relu(const float* x, float* out, long n) {
              for (long i = 0; i < n; i++) {
                float y = x[i] <= 0 ? 0 : x[i] * 2;
                int bits;
                __builtin_memcpy(&bits, &y, 4);
                __builtin_ia32_movnti((int*)out + i, bits);
              }
              __builtin_ia32_sfence();
            }
        """,
        model=RELU,
    ),
)
