import pytest

from kernelevolve.evaluation.client import Client, Gone


def test_who_asks_a_dead_subprocess_hears_that_it_is_gone_before_the_listener_does(monkeypatch):
    monkeypatch.setattr(Client, "_listen", lambda self: None)
    client = Client("no.such.module")
    client.process.wait()
    with pytest.raises(Gone):
        client.request({"op": "anything"}).result(0)
    assert not client.alive
    client.close()
