"""MLflow: somebody else is at it as well."""

import itertools

import pytest
from mlflow_steps import CLIENT, aliases, another, interposed, target, versions

from calib.errors import StoreError
from calib.promotion.mlflow.alias import Standing, move_alias

pytestmark = pytest.mark.usefixtures("own_settings")


def second(server, client, package):
    """Versions 1, the champion, and 2, which is none; what another client would move to 2."""
    target(server).promote(package)
    (version,) = versions(client, package)
    model_id = version.source.rpartition("/")[2]
    made = client.create_model_version(
        package.name, version.source, version.run_id, model_id=model_id
    )
    assert int(made.version) == 2
    return lambda: CLIENT(tracking_uri=server).set_registered_model_alias(
        package.name, "champion", "2"
    )


def test_an_alias_that_is_moved_during_the_upload_is_left_there(
    server, client, package, monkeypatch
):
    theirs = second(server, client, package)
    interposed(monkeypatch, "create_model_version", after=theirs)
    newer = another(package, "slow")
    with pytest.raises(StoreError, match=r"moved while this was promoted.*got version 2"):
        target(server).promote(newer)
    assert aliases(client, package) == {"champion": 2}
    assert target(server).plan(newer)[0] == "move alias champion from version 2 to version 3"
    target(server).promote(newer)
    assert aliases(client, package) == {"champion": 3, "previous": 2}


def test_an_alias_that_is_moved_on_right_after_us_is_left_there(
    server, client, package, monkeypatch
):
    theirs = second(server, client, package)
    real = CLIENT.set_registered_model_alias

    def ours(self, name, alias, version):
        real(self, name, alias, version)
        if alias == "champion" and version == "3":
            theirs()

    monkeypatch.setattr(CLIENT, "set_registered_model_alias", ours)
    with pytest.raises(StoreError, match=r"moved on right away.*got version 2"):
        target(server).promote(another(package, "outrun"))
    assert aliases(client, package) == {"champion": 2, "previous": 1}


def test_of_two_who_move_an_alias_at_once_one_at_least_is_told(
    server, client, package, monkeypatch
):
    """The other one does all of it just before one of our calls: before each of them."""
    second(server, client, package)
    nowhere = Standing()
    other, told = CLIENT(tracking_uri=server), []

    def move(mover, version):
        try:
            move_alias(mover, package.name, "champion", version, nowhere)
        except StoreError:
            told.append(version)

    names = ("set_registered_model_tag", "get_registered_model", "set_registered_model_alias")
    for turn in itertools.count():
        client.delete_registered_model_alias(package.name, "champion")
        told.clear()
        made = itertools.count()
        for name in names:
            real = getattr(CLIENT, name)

            def counted(*args, real=real, made=made, turn=turn):
                if next(made) == turn:
                    move(other, 2)
                return real(client, *args)

            monkeypatch.setattr(client, name, counted)
        move(client, 1)
        if next(made) <= turn:  # the other one had no turn
            break
        assert told
        assert aliases(other, package)["champion"] in {1, 2}
    assert turn >= 4


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_who_promote_the_same_at_once_make_one_version(
    server, client, package, monkeypatch, when
):
    second(server, client, package)
    theirs = {when: lambda: target(server).promote(newer)}
    interposed(monkeypatch, "create_model_version", **theirs)
    newer = another(package, "the same by two")
    assert target(server).promote(newer)[-1] == "kept version 1 as alias previous"
    assert aliases(client, package) == {"champion": 3, "previous": 1}
    assert len(versions(client, package)) == 3
    assert target(server).plan(newer) == ()
