//! Completions and man pages.

use std::process::Command;

use crate::harness::run_with;

#[test]
fn completions_for_each_shell() {
    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef routerctl"),
        ("fish", "complete -c routerctl"),
    ] {
        let outcome = run_with(None, &["completion", shell], "");
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(outcome.stdout.contains(part), "{shell}: {}", outcome.stdout);
        assert!(outcome.stdout.contains("apply"), "{shell}");
    }
}

#[test]
fn bash_takes_its_completion() {
    let script = run_with(None, &["completion", "bash"], "").stdout;
    let ask = format!(
        "{script}\nCOMP_WORDS=(routerctl get ipp); COMP_CWORD=2; _routerctl routerctl ipp get; echo \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        words.trim(),
        "ippools",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_man_page_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let outcome = run_with(None, &["man", pages.to_str().unwrap()], "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for page in [
        "routerctl.1",
        "routerctl-apply.1",
        "routerctl-ipam-release.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(!run_with(None, &["--help"], "").stdout.contains("man pages"));
}
