"""Which packages a kept stage depends on."""

import importlib.metadata

from calib import environment


def test_packages_of_other_backends_and_tools_are_no_part_of_a_stages_key(monkeypatch):
    versions = {"numpy": "2.4", "onnxruntime": "1.32", "pandas": "3.0", "scipy": "1.17"}
    known = dict(versions)

    def version(name):
        if name not in known:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    before = environment.stage_packages(None)
    known |= {"tensorrt_rtx_cu13": "1.7", "pandas": "3.1", "mypy": "1.14"}
    assert environment.stage_packages(None) == before == {"numpy": "2.4", "onnxruntime": "1.32"}
    assert environment.stage_packages("tensorrt_rtx") == before | {"tensorrt_rtx_cu13": "1.7"}
    known["numpy"] = "2.5"
    assert environment.stage_packages(None) != before
