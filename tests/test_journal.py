"""What a stage has measured is not measured again, whatever became of the file's end."""

from calib.journal import Journal


def test_figures_are_measured_once(tmp_path):
    measured = []

    def measure():
        measured.append(1)
        return [1.5, float("inf")]

    first = Journal(tmp_path / "folder" / "stage.journal")
    assert first.once("a", measure) == first.once("a", measure) == [1.5, float("inf")]
    again = Journal(tmp_path / "folder" / "stage.journal")
    assert again.once("a", measure) == [1.5, float("inf")]
    assert len(measured) == 1


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    path = tmp_path / "stage.journal"
    journal = Journal(path)
    journal.once("a", lambda: [1])
    journal.once("b", lambda: [2])
    path.write_text(path.read_text()[:-4])
    again = Journal(path)
    assert again.once("a", lambda: [7]) == [1]
    assert again.once("b", lambda: [8]) == [8]


def test_what_follows_a_line_that_was_cut_off_is_kept(tmp_path):
    path = tmp_path / "stage.journal"
    Journal(path).once("a", lambda: [1])
    with path.open("ab") as file:
        file.write(b'["b", [2\xff')
    Journal(path).once("c", lambda: [3])
    again = Journal(path)
    assert again.once("c", lambda: [9]) == [3]
    assert again.once("a", lambda: [9]) == [1]
    assert again.once("b", lambda: [9]) == [9]


def test_a_finished_stage_leaves_nothing_behind(tmp_path):
    journal = Journal(tmp_path / "stage.journal")
    journal.once("a", lambda: [1])
    journal.close()
    assert not list(tmp_path.iterdir())
