//! `/v1/explain`: what becomes of a packet, and why.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use calc::explain::{ExplainError, Question};
use model::api::Explanation;
use model::resources::workload_endpoint::Protocol;
use serde::Deserialize;

use super::{ApiError, ApiResult};
use crate::explain::Refused;
use crate::services::Services;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Asked {
    source: String,
    destination: String,
    #[serde(default = "tcp")]
    protocol: String,
    port: Option<u16>,
    source_port: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    #[serde(default)]
    all: bool,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// TCP, UDP, SCTP and UDP-Lite.
const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];
/// ICMP and ICMPv6.
const ICMP: [u8; 2] = [1, 58];

impl From<Refused> for ApiError {
    fn from(e: Refused) -> ApiError {
        let status = match &e {
            Refused::Question(ExplainError::Unknown(_)) => StatusCode::NOT_FOUND,
            Refused::Question(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::NotYet | Refused::Gone(_) | Refused::Store(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        ApiError::new(status, e.to_string(), e.is_retryable())
    }
}

impl Asked {
    fn question(self) -> Result<Question, String> {
        let protocol = protocol(&self.protocol)?;
        let has_port = self.port.is_some() || self.source_port.is_some();
        if has_port && !WITH_PORTS.contains(&protocol) {
            let named = &self.protocol;
            return Err(format!(
                "port: {named} has none; leave it out, or ask about tcp, udp or sctp"
            ));
        }
        if self.icmp_type.is_some() && !ICMP.contains(&protocol) {
            return Err("icmpType: only ICMP has types; ask about icmp".to_owned());
        }
        if self.icmp_code.is_some() && self.icmp_type.is_none() {
            return Err("icmpCode: a code belongs to a type; give icmpType too".to_owned());
        }
        Ok(Question {
            source: self.source,
            destination: self.destination,
            protocol,
            port: self.port,
            source_port: self.source_port,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            all: self.all,
        })
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    let named = match text.parse::<u8>() {
        Ok(number) => Protocol::Number(number),
        Err(_) => Protocol::Name(text.to_owned()),
    };
    named.number().ok_or_else(|| {
        let names: Vec<&str> = Protocol::names().collect();
        let names = names.join(", ");
        format!("protocol: {text:?} is none: write one of {names}, or a number from 1 to 255")
    })
}

pub(super) async fn explain(
    State(s): State<Services>,
    Query(asked): Query<Asked>,
) -> ApiResult<Explanation> {
    let question = asked.question().map_err(ApiError::bad_request)?;
    Ok(Json(crate::explain::explain(&s, question).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Question, String> {
        let mut value = serde_json::json!({"source": "a", "destination": "b"});
        let more: serde_json::Value = serde_json::from_str(text).unwrap();
        let more = more.as_object().unwrap().clone();
        value.as_object_mut().unwrap().extend(more);
        serde_json::from_value::<Asked>(value).unwrap().question()
    }

    #[test]
    fn protocols_have_names_and_numbers_and_some_have_ports() {
        assert_eq!(asked("{}").unwrap().protocol, 6);
        assert_eq!(
            asked(r#"{"protocol": "udp", "port": 53}"#).unwrap().port,
            Some(53)
        );
        assert_eq!(asked(r#"{"protocol": "47"}"#).unwrap().protocol, 47);
        for (wrong, word) in [
            (r#"{"protocol": "0"}"#, "protocol: "),
            (r#"{"protocol": "tpc"}"#, "write one of TCP, UDP"),
            (r#"{"protocol": "icmp", "port": 1}"#, "port: icmp has none"),
            (r#"{"icmpType": 8}"#, "icmpType: "),
            (r#"{"protocol": "icmp", "icmpCode": 0}"#, "icmpCode: "),
        ] {
            let error = asked(wrong).unwrap_err();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
