"""Facts and limits to verdicts: pure, so an old run can be judged again."""
