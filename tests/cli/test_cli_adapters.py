"""``aiop pretrain --adapters-only``: what it refuses before anything is read or trained."""


def test_adapters_of_nothing(aiop_cli, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("corpora: [nas-bench-201]\nout: out\n")
    aiop_cli("pretrain", config, "--adapters-only").is_user_error("ask for no adapters", "by: domain")
    config.write_text("corpora: [nas-bench-201]\nout: out\nadapters: {by: domain}\n")
    aiop_cli("pretrain", config, "--adapters-only").is_user_error("holds no predictor")
    aiop_cli("pretrain", config, "--adapters-only", "--search", "2").is_user_error("exclude each other")
    config.write_text("adapters: {by: domains}\n")
    aiop_cli("pretrain", config).is_user_error("'domains'", "domain")
