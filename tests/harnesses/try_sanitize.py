import time, sys
from pathlib import Path
from tests.harnesses.conftest import Bench, HEAD, SPEC
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.job import Job, Limits
import tempfile
TASK="""
class Model(nn.Module):
    def forward(self, x):
        return x * 2
def get_inputs():
    return [torch.randn(63, 17)]
"""
MODEL="""
import torch
from torch import nn
from kernelevolve.runtime import cpp
kernel = cpp.load("kernel.cpp", flags=["-O2"])
class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        kernel.twice(x, y, x.numel())
        return y
"""
CPP="""
#include <cstdint>
extern "C" void twice(const float *x, float *y, int64_t n) {
    %s
    for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i];
}
"""
def run(b, task, body, stage=Stage.CONFIRM):
    files=(SourceFile(path="model.py",text=MODEL),SourceFile(path="kernel.cpp",text=CPP%body))
    job=Job(task=task,candidate=Candidate(language="cpp",files=files),target=SPEC,stage=stage,seed="1",limits=Limits(run_seconds=20))
    t=time.time(); v=b.loop.run(b.harness.evaluate(job)); print(round(time.time()-t,2),v.status,v.detector,v.message,v.stages_ms,v.remarks,v.flags); return v
if __name__=="__main__":
    b=Bench(Path(tempfile.mkdtemp()))
    with b.loop:
        task=b.task(TASK)
        for body in sys.argv[1:]: run(b,task,body)
        b.loop.run(b.harness.close())
