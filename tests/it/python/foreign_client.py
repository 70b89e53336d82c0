"""A client that shares no code with the daemon: Python's grpcio, with stubs made from proto/ at run time.

usage: foreign_client.py --address ADDRESS --proto FOLDER --against double|daemon

`double` is the server of the integration tests with a scripted service behind it. `daemon` is a running
`actioncontroller` whose configuration has the `sim` engine; it is left without the workloads that are made here.
Exit code 0: everything was as the contract says. Otherwise the failed check is told and the code is 1.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
import uuid

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc

TIMEOUT_S = 30
CONTRACTS = [f"actioncontroller/v1/{name}.proto" for name in ("actions", "resources", "workloads")]
MESSAGE_LIMIT = 4 * 1024 * 1024


def generate(proto, out):
    """Makes the stubs of our contracts and gives their four modules."""
    well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(arguments + CONTRACTS) != 0:
        raise SystemExit("protoc does not take the contracts")
    sys.path.insert(0, out)
    names = ["actions_pb2", "actions_pb2_grpc", "workloads_pb2", "workloads_pb2_grpc"]
    return [importlib.import_module(f"actioncontroller.v1.{name}") for name in names]


class Client:
    """The stubs on one channel, and what the checks have in common."""

    def __init__(self, address, proto, out):
        self.pb, actions_grpc, self.wpb, workloads_grpc = generate(proto, out)
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT_S)
        self.actions = actions_grpc.ActionControllerStub(self.channel)
        self.workloads = workloads_grpc.WorkloadsStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def spec(self, verb, target="", **more):
        return self.pb.ActionSpec(verb=verb, target=target, **more)

    def run(self, verb, target="", no_wait=False, **more):
        request = self.pb.ExecuteActionRequest(action=self.spec(verb, target, **more), no_wait=no_wait)
        return self.actions.ExecuteAction(request, timeout=TIMEOUT_S).outcome

    def refused(self, call):
        """Code, ErrorDetail and Outcome (or None) of a call that has to fail with our details."""
        try:
            call()
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            assert status is not None, f"no details: {error.code()} {error.details()}"
            detail, outcome = self.pb.ErrorDetail(), None
            for packed in status.details:
                if packed.Is(self.pb.Outcome.DESCRIPTOR):
                    outcome = self.pb.Outcome()
                    packed.Unpack(outcome)
                else:
                    assert packed.Unpack(detail), packed.type_url
            assert detail.status == error.code().value[0], detail
            return error.code(), detail, outcome
        raise AssertionError("the call succeeded")


def check_refusals(client):
    """Bad requests: code, machine code and field."""
    pb = client.pb
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_UNSPECIFIED, "x"))
    assert (code, detail.field) == (grpc.StatusCode.INVALID_ARGUMENT, "action.verb"), detail
    code, detail, _ = client.refused(lambda: client.run(99, "x"))
    assert (code, detail.code) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), detail
    much = pb.Parameters(resources={"memory": "much"})
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_SCALE, "x", parameters=much))
    assert (code, detail.field) == (grpc.StatusCode.INVALID_ARGUMENT, "action.parameters.resources.memory"), detail
    grace = pb.Parameters(grace_ms=3_600_001)
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_STOP, "x", parameters=grace))
    assert (code, detail.field) == (grpc.StatusCode.INVALID_ARGUMENT, "action.parameters.grace_ms"), detail
    code, detail, _ = client.refused(lambda: client.workloads.GetWorkload(client.wpb.GetWorkloadRequest()))
    assert (code, detail.field) == (grpc.StatusCode.INVALID_ARGUMENT, "name"), detail
    request = pb.ListActionsRequest(page_size=1001)
    code, detail, _ = client.refused(lambda: client.actions.ListActions(request, timeout=TIMEOUT_S))
    assert (code, detail.field) == (grpc.StatusCode.INVALID_ARGUMENT, "page_size"), detail


def check_limit(client):
    """A request above the limit is refused, and the next one works."""
    large = client.spec(client.pb.VERB_LAUNCH, "x", manifest="x" * MESSAGE_LIMIT)
    try:
        client.actions.ExecuteAction(client.pb.ExecuteActionRequest(action=large), timeout=TIMEOUT_S)
        raise AssertionError("the call succeeded")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
    client.workloads.ListWorkloads(client.wpb.ListWorkloadsRequest(), timeout=TIMEOUT_S)


def check_health(client):
    """The standard health service, with the stubs that gRPC publishes."""
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ["", "actioncontroller.v1.ActionController"]:
        request = health_pb2.HealthCheckRequest(service=service)
        assert client.health.Check(request, timeout=TIMEOUT_S).status == serving
    watch = client.health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert next(watch).status == serving
    watch.cancel()


def check_double(client):
    """What the scripted service answers arrives as it is."""
    pb, wpb = client.pb, client.wpb
    outcome = client.run(pb.VERB_STOP, "lane", action_id="p-1")
    assert (outcome.action_id, outcome.state) == ("p-1", pb.ACTION_STATE_SUCCEEDED), outcome
    assert outcome.accepted_at.ToMilliseconds() == 1_700_000_000_000, outcome
    code, detail, failed = client.refused(lambda: client.run(pb.VERB_STOP, "fails", action_id="p-2"))
    assert (code, detail.code) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE"), detail
    assert (failed.action_id, failed.state) == ("p-2", pb.ACTION_STATE_FAILED), failed
    code, detail, failed = client.refused(lambda: client.run(pb.VERB_STOP, "large"))
    assert failed.state == pb.ACTION_STATE_FAILED and failed.warnings, failed
    events = list(client.actions.WatchAction(pb.WatchActionRequest(action_id="p-1"), timeout=TIMEOUT_S))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["snapshot", "step", "progress", "outcome"], kinds
    page = client.workloads.ListWorkloads(wpb.ListWorkloadsRequest(), timeout=TIMEOUT_S)
    assert [each.name for each in page.workloads] == ["lane"], page
    exec_request = wpb.ExecRequest(workload="lane", argv=["id"])
    assert client.workloads.Exec(exec_request, timeout=TIMEOUT_S).stdout_data == b"out"


def pod(name, *arguments, init=""):
    """A Pod for the simulator, whose containers do what their arguments say."""
    words = ", ".join(f'"{argument}"' for argument in arguments)
    text = f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n"
    if init:
        text += f'  initContainers:\n  - name: first\n    image: demo:1\n    args: ["{init}"]\n'
    return text + f"  containers:\n  - name: main\n    image: demo:1\n    args: [{words}]\n"


def on_sim(client, **more):
    return client.pb.Parameters(engine="sim", **more)


def check_life(client, name):
    """Launch, list, logs, exec, stats, wait, stop, terminate."""
    pb, wpb = client.pb, client.wpb
    manifest = pod(name, "log:stdout:0ms:to-out", "log:stderr:0ms:to-err")
    action_id = f"{name}-launch"
    outcome = client.run(pb.VERB_LAUNCH, manifest=manifest, action_id=action_id, parameters=on_sim(client))
    assert outcome.state == pb.ACTION_STATE_SUCCEEDED and outcome.changed and outcome.engine == "sim", outcome
    again = client.run(pb.VERB_LAUNCH, manifest=manifest, parameters=on_sim(client))
    assert not again.changed, again
    assert again.workloads == outcome.workloads, "the container ids stay"

    events = list(client.actions.WatchAction(pb.WatchActionRequest(action_id=action_id), timeout=TIMEOUT_S))
    assert events[0].WhichOneof("event") == "snapshot", events
    assert events[-1].WhichOneof("event") == "outcome", events
    assert events[-1].outcome.state == pb.ACTION_STATE_SUCCEEDED, events[-1]

    page = client.workloads.ListWorkloads(wpb.ListWorkloadsRequest(), timeout=TIMEOUT_S)
    assert name in [each.name for each in page.workloads], page
    workload = client.workloads.GetWorkload(wpb.GetWorkloadRequest(name=name), timeout=TIMEOUT_S)
    assert workload.state == wpb.WORKLOAD_STATE_RUNNING and workload.engine == "sim", workload
    assert [each.name for each in workload.containers] == ["main"], workload

    def lines(*streams):
        request = wpb.LogsRequest(workload=name, streams=streams)
        return b"".join(chunk.data for chunk in client.workloads.Logs(request, timeout=TIMEOUT_S))

    assert lines(wpb.OUTPUT_STREAM_STDOUT) == b"to-out\n"
    assert lines(wpb.OUTPUT_STREAM_STDERR) == b"to-err\n"
    ran = client.workloads.Exec(wpb.ExecRequest(workload=name, argv=["echo", "hi"]), timeout=TIMEOUT_S)
    assert (ran.exit_code, ran.stdout_data) == (0, b"hi\n"), ran
    stats = client.workloads.Stats(wpb.StatsRequest(workload=name), timeout=TIMEOUT_S)
    assert [each.name for each in stats.containers] == ["main"], stats

    client.run(pb.VERB_STOP, name, parameters=pb.Parameters(grace_ms=1000))
    request = wpb.WaitRequest(workload=name, condition=wpb.CONDITION_EXITED, timeout_ms=5000)
    client.workloads.Wait(request, timeout=TIMEOUT_S)
    client.run(pb.VERB_TERMINATE, name)
    code, detail, _ = client.refused(lambda: client.workloads.GetWorkload(wpb.GetWorkloadRequest(name=name)))
    assert (code, detail.code) == (grpc.StatusCode.NOT_FOUND, "WORKLOAD_NOT_FOUND"), detail


def check_cancel(client, name):
    """An action that is accepted, seen to run, cancelled and undone."""
    pb, wpb = client.pb, client.wpb
    action_id = f"{name}-launch"
    manifest = pod(name, init="exit-after:10m:0")
    parameters = on_sim(client)
    accepted = client.run(pb.VERB_LAUNCH, manifest=manifest, action_id=action_id, no_wait=True, parameters=parameters)
    assert accepted.action_id == action_id, accepted
    watch = client.actions.WatchAction(pb.WatchActionRequest(action_id=action_id), timeout=TIMEOUT_S)
    for event in watch:
        kind = event.WhichOneof("event")
        assert kind != "outcome", event
        progress = event.snapshot.progress if kind == "snapshot" else getattr(event, kind)
        progress = progress.progress if kind == "step" else progress
        if "await" in progress.current_step:
            break
    request = pb.CancelActionRequest(action_id=action_id, reason="changed my mind")
    started = time.monotonic()
    answer = client.actions.CancelAction(request, timeout=TIMEOUT_S)
    assert time.monotonic() - started < 5, "a cancel takes long"
    assert answer.cancelled and answer.outcome.state == pb.ACTION_STATE_CANCELLED, answer
    assert [event.WhichOneof("event") for event in watch][-1] == "outcome"
    got = client.actions.GetAction(pb.GetActionRequest(action_id=action_id), timeout=TIMEOUT_S)
    assert got.outcome.state == pb.ACTION_STATE_CANCELLED and "changed my mind" in str(got.outcome), got
    page = client.workloads.ListWorkloads(wpb.ListWorkloadsRequest(), timeout=TIMEOUT_S)
    left = [each for each in page.workloads if each.name == name and each.containers]
    assert not left, left


def check_failures(client, name):
    """Documents and names that mean nothing, and a start that fails."""
    pb = client.pb
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_START, f"{name}-unknown"))
    assert (code, detail.code) == (grpc.StatusCode.NOT_FOUND, "WORKLOAD_NOT_FOUND"), detail
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_LAUNCH, manifest="kind: [", parameters=on_sim(client)))
    assert (code, detail.code) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MANIFEST"), detail
    nowhere = pb.Parameters(engine="no-such-engine")
    code, detail, _ = client.refused(lambda: client.run(pb.VERB_LAUNCH, manifest=pod(name), parameters=nowhere))
    assert detail.code == "UNKNOWN_ENGINE", detail
    manifest = pod(name, "fail-start:no such program")
    code, detail, outcome = client.refused(
        lambda: client.run(pb.VERB_LAUNCH, manifest=manifest, parameters=on_sim(client))
    )
    assert "no such program" in detail.message, detail
    assert outcome.state == pb.ACTION_STATE_FAILED and not outcome.left, outcome


def check_daemon(client):
    """The real pipeline with the simulator."""
    name = f"py-{uuid.uuid4().hex[:8]}"
    check_life(client, f"{name}-life")
    check_cancel(client, f"{name}-cancel")
    check_failures(client, f"{name}-bad")
    plan_request = client.pb.PlanRequest(
        actions=[client.spec(client.pb.VERB_LAUNCH, manifest=pod(f"{name}-plan"), parameters=on_sim(client))]
    )
    plan = client.actions.Plan(plan_request, timeout=TIMEOUT_S).plan
    assert [step.operation for step in plan.steps][-1] == "start" and not plan.errors, plan
    listed = client.actions.ListActions(client.pb.ListActionsRequest(page_size=2), timeout=TIMEOUT_S)
    assert len(listed.actions) == 2 and listed.next_page_token, listed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--proto", required=True)
    parser.add_argument("--against", required=True, choices=["double", "daemon"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        client = Client(options.address, os.path.abspath(options.proto), out)
        special = {"double": check_double, "daemon": check_daemon}[options.against]
        for check in [check_health, check_refusals, check_limit, special]:
            check(client)
            print(f"ok {check.__name__}", flush=True)
        client.channel.close()


if __name__ == "__main__":
    main()
