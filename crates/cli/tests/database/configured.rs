//! Where commands learn which database and which secret: command line, files and environment.

use std::process::Output;

use rowcast_sandbox::Folder;

use crate::support::{Place, rowcast, text};

async fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = rowcast(args);
    command.envs(environment.iter().copied());
    command.output().await.expect("the command runs")
}

#[tokio::test]
async fn the_database_comes_from_a_file_that_the_environment_names_or_from_the_configuration_file() {
    let place = Place::new("cli_configured").await;
    let folder = Folder::new("configured").expect("a folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let secret = write("url", &format!("{}\n", place.url));
    let config =
        write("rowcast.toml", &format!("[database]\nurl = \"{}\"\n[edge]\nlisten = \"x\"\n", place.url));
    let ok = |output: Output| assert!(output.status.success(), "{}", text(&output.stderr));
    ok(run(&["migrate"], &[("ROWCAST_DATABASE__URL_FILE", &secret)]).await);
    ok(run(&["watches", "--config", &config], &[]).await);
    ok(run(&["migrate", "status"], &[("ROWCAST_CONFIG", &config)]).await);
    // The command line counts before both.
    let wrong = [("ROWCAST_DATABASE__URL", "postgres://127.0.0.1:1/nowhere"), ("ROWCAST_CONFIG", &config)];
    ok(run(&["watches", "--database-url", &place.url], &wrong).await);
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused() {
    let both = run(&["watches", "--database-url", "postgres://x/y", "--dev", "d"], &[]).await;
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("cannot be used with"), "{}", text(&both.stderr));
    // A variable is no argument: --dev counts before it.
    let dev =
        run(&["watches", "--dev", "/nonexistent"], &[("ROWCAST_DATABASE__URL", "postgres://x/y")]).await;
    assert!(text(&dev.stderr).contains("/nonexistent/dev.json"), "{}", text(&dev.stderr));
    let slip = run(&["watches"], &[("ROWCAST_DATABASE_URL", "postgres://u:hush@x/y")]).await;
    let said = text(&slip.stderr);
    assert!(said.contains("ROWCAST_DATABASE__URL") && !said.contains("hush"), "{said}");
}

#[tokio::test]
async fn the_secret_of_tokens_can_come_from_a_file() {
    let folder = Folder::new("secret").expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, "a secret of at least 32 bytes, hush\n").expect("a file");
    let path = path.to_str().expect("UTF-8");
    let token = run(&["token", "--merchant", "m1"], &[("ROWCAST_AUTH__HS256_SECRET_FILE", path)]).await;
    assert_eq!(text(&token.stdout).trim_end().split('.').count(), 3, "{}", text(&token.stderr));
}
