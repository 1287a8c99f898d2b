import time, functools, httpx
import pytest
from sandbox.server import SandboxServer

class FastClock:
    def __init__(self): self.skipped=0.0; self.sleeps=[]
    def monotonic(self): return time.monotonic()+self.skipped
    def time(self): return time.time()+self.skipped
    def sleep(self,s): self.sleeps.append(s); self.skipped+=s

def test_a(prefect_api, tmp_path, monkeypatch):
    import flows.train_pipeline as fl
    from providers.http import ClientOptions
    import tasks.exports, tasks.collection, tasks.creation, tasks.polling, providers.connect
    from pipeline.models import TrainRequest
    clock=FastClock()
    for m in (tasks.exports,tasks.collection,tasks.creation,tasks.polling): monkeypatch.setattr(m,"time",clock)
    monkeypatch.setattr(providers.connect,"ClientOptions",functools.partial(ClientOptions,clock=clock))
    with SandboxServer(tmp_path/"sb") as s:
        for i in range(4):
            acc=s.new_account(engine="scripted",script={"mode":"looks","steps":[{"status":"queued"},{"status":"running","epochs":5,"for_looks":2},{"status":"completed"}]})
            acc.add_dataset("ds",count=8,size=64)
            monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL",acc.url); monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY",acc.api_key)
            t=time.time()
            st=fl.train_pipeline(TrainRequest(dataset="ds",sandbox=True,samples=2,min_agreement=0,output_dir=tmp_path/"out"),return_state=True)
            print(i, time.time()-t, st.name, st.message, acc.bill()["started_runs"], clock.sleeps)
            print([ (r["method"],r["path"],r["status"]) for r in acc.requests()] if i==0 else "")
