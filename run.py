"""`python run.py configs/bert_int8.yaml` is `calib run configs/bert_int8.yaml`."""

from calib.cli import main

if __name__ == "__main__":
    main(default_command="run")
