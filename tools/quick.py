import sys,torch,time
sys.path.insert(0,'tests/body')
from rigs import rig
import avatorch
m=rig(10475,55,20,4).to('cuda',torch.float32); p=m.prepared()
def f(i,inter=True): return torch.ops.smplx.forward(i['shape_coefficients'],i['pose'],i['transl'],m.v_template,m.shapedirs,m.posedirs,m.J_regressor,m.parents,m.lbs_weights,None,None,None,None,p,inter)
def t(g,n=30):
    for _ in range(5): g()
    torch.cuda.synchronize(); s=[torch.cuda.Event(enable_timing=True) for _ in range(n+1)]
    for i in range(n): s[i].record(); g()
    s[n].record(); torch.cuda.synchronize()
    return sorted(s[i].elapsed_time(s[i+1]) for i in range(n))[n//2]
for B in (1,32,256,1024,4096):
    i={k:v.requires_grad_() for k,v in m.inputs(B).items()}
    with torch.no_grad(): a=t(lambda: f(i,False))
    g=torch.randn(B,10475,3,device='cuda')
    def both():
        v=f(i)[0]; torch.autograd.grad(v,list(i.values()),g)
    torch.cuda.reset_peak_memory_stats(); b=t(both)
    print(B,'fwd %.3f ms'%a,'both %.3f ms'%b,'peak MiB',torch.cuda.max_memory_allocated()>>20,flush=True)
from torch.profiler import profile, ProfilerActivity
with profile(activities=[ProfilerActivity.CUDA]) as pr:
    for _ in range(5): both()
    torch.cuda.synchronize()
print(pr.key_averages().table(sort_by='cuda_time_total',row_limit=14,max_name_column_width=60))
