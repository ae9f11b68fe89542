from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.graph import Graph
from kernelevolve.search.confirm import due, improvement
from kernelevolve.testing.journals import passed, refused
from tests.search.search_kit import Device, Writer, run, session

SCORES = {1: 1.1, 2: 5.0, 3: 2.0, 4: 1.9, 5: 1.8, 6: 1.2}


def confirming(verdicts, confirm=2, nodes=6) -> tuple[Graph, list[int]]:
    """The graph and the order of confirms, where `verdicts` overrules the search's scores."""
    asked = []

    def judge(source, stage):
        number = int(source.split()[1])
        if stage is Stage.CONFIRM:
            asked.append(number)
            verdict = verdicts.get(number, SCORES[number])
            return verdict if not isinstance(verdict, float) else passed(verdict, stage)
        return passed(SCORES[number], stage)

    return run(session(None, Writer(), Device(judge), nodes=nodes, confirm=confirm)), asked


def test_the_best_few_are_confirmed():
    graph, asked = confirming({})
    assert sorted(asked) == [2, 3]
    assert graph.best.number == 2


def test_a_lucky_node_is_replaced_by_the_next_best():
    graph, asked = confirming({2: 1.0})
    assert sorted(asked) == [2, 3, 4]
    assert graph.best.number == 3


def test_a_refuted_node_is_replaced_by_the_next_best():
    graph, asked = confirming({2: refused(Status.WRONG, Stage.CONFIRM)})
    assert sorted(asked) == [2, 3, 4]
    assert graph.best.number == 3


def test_the_nodes_of_a_final_check_share_inputs_that_no_other_check_had():
    """The goal turns out to be luck, twice, so that the search goes on and checks again."""
    device = Device(lambda source, stage: passed(1.5 if stage is Stage.CONFIRM else 5.0, stage))
    run(session(None, Writer(), device, nodes=6, workers=2, goal=3.0, confirm=2))
    jobs = [job for job in device.jobs if job.stage is Stage.CONFIRM]
    pools = list(dict.fromkeys(job.pool for job in jobs))
    assert all(pools)
    assert 1 < len(pools) < len(jobs)
    assert len({job.seed for job in jobs}) == len(jobs)
    assert not any(job.pool for job in device.jobs if job.stage is not Stage.CONFIRM)


def test_ordinary_noise_replaces_nobody():
    graph, asked = confirming({2: 4.7, 3: 1.85})
    assert sorted(asked) == [2, 3]


def test_the_number_of_confirms_is_bounded():
    wrong = refused(Status.WRONG, Stage.CONFIRM)
    graph, asked = confirming(dict.fromkeys(SCORES, wrong), confirm=1)
    assert asked == [2, 3, 4]
    assert graph.best.number == 5
    assert improvement(graph) is None


def test_confirming_ends_when_no_candidate_is_left():
    wrong = refused(Status.WRONG, Stage.CONFIRM)
    graph, asked = confirming(dict.fromkeys(SCORES, wrong), confirm=6)
    assert sorted(asked) == [1, 2, 3, 4, 5, 6]
    assert graph.best is None


def test_a_lost_confirm_is_not_repeated_in_this_session_but_in_the_next():
    graph, asked = confirming({2: refused(Status.LOST, Stage.CONFIRM)})
    assert asked.count(2) == 3
    assert not graph.nodes[2].confirmed
    assert 2 in [n.number for n in due(graph, 2, ())]


def test_slower_than_the_baseline_is_no_improvement():
    graph, _ = confirming({n: 0.97 for n in SCORES}, confirm=6)
    assert graph.best.confirmed
    assert improvement(graph) is None


def test_an_improvement_is_confirmed_and_above_one():
    graph, _ = confirming({})
    assert improvement(graph).number == 2


def test_each_confirm_draws_its_own_secret_seed():
    device = Device(lambda source, stage: passed(2.0, stage))
    graph = run(session(None, Writer(), device, nodes=3, confirm=3))
    seeds = {n.confirmation.seed for n in graph} | {n.evaluation.seed for n in graph}
    assert len(seeds) == 6
