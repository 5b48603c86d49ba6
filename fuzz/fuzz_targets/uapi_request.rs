//! Requests and answers of WireGuard's text protocol: no text panics, and what is accepted survives
//! being written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireguard::uapi::{RequestParser, ResponseParser, render_request, render_state};

fuzz_target!(|text: &str| {
    let mut parser = RequestParser::default();
    for line in text.split('\n') {
        let Ok(parsed) = parser.line(line) else { break };
        let Some(request) = parsed else { continue };
        let mut again = RequestParser::default();
        let shown = render_request(&request);
        let read = shown.lines().find_map(|l| again.line(l).expect("what we write is valid"));
        assert_eq!(read, Some(request));
    }
    let mut parser = ResponseParser::default();
    for line in text.split('\n') {
        let Ok(parsed) = parser.line(line) else { break };
        let Some(response) = parsed else { continue };
        let mut again = ResponseParser::default();
        let shown = render_state(&response.state);
        let read = shown.lines().find_map(|l| again.line(l).expect("what we write is valid"));
        assert_eq!(read.map(|r| r.state), Some(response.state));
        break;
    }
});
