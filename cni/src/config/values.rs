//! Values of fields.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kernel::Mac;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// Labels as a map, or as the list of pairs that CNI's conventions have.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    Map(BTreeMap<String, String>),
    Pairs(Vec<Label>),
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
}

pub(super) fn typed<T: serde::de::DeserializeOwned>(
    place: &str,
    value: Value,
) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| Failure::config(format!("{place}: {}", e.inner())))
}

pub(super) fn labels(place: &str, value: Value) -> Result<BTreeMap<String, String>, Failure> {
    let labels: Labels = serde_json::from_value(value).map_err(|_| {
        Failure::config(format!(
            "{place}: write {{\"app\": \"web\"}} or [{{\"key\": \"app\", \"value\": \"web\"}}]"
        ))
    })?;
    Ok(match labels {
        Labels::Map(map) => map,
        Labels::Pairs(pairs) => pairs.into_iter().map(|l| (l.key, l.value)).collect(),
    })
}

pub(super) fn addresses(place: &str, value: Value) -> Result<Vec<IpAddr>, Failure> {
    let mut ips = Vec::new();
    for text in typed::<Vec<String>>(place, value)? {
        let ip = address(&text).map_err(|e| Failure::config(format!("{place}: {text:?}: {e}")))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

/// An address; a prefix length is allowed and means nothing, for every address here is routed alone.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (text, None),
    };
    let mend = || "write an IP address, such as 10.0.0.5 or fd00::5".to_owned();
    let ip: IpAddr = ip.parse().map_err(|_| mend())?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => Ok(ip),
        Some(Ok(length)) if length <= bits => Ok(ip),
        Some(_) => Err(mend()),
    }
}

/// A MAC address; none when it is empty.
pub(super) fn mac(place: &str, value: &Value) -> Result<Option<Mac>, Failure> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) => unicast(text)
            .map(Some)
            .map_err(|e| Failure::config(format!("{place}: {e}"))),
        None => Err(Failure::config(format!(
            "runtimeConfig.mac: {value} is no text"
        ))),
    }
}

/// A MAC address that an interface can have.
pub(crate) fn unicast(text: &str) -> Result<Mac, String> {
    let mac: Mac = text
        .parse()
        .map_err(|e: model::kernel::MacError| e.to_string())?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(format!(
            "{mac} is no unicast address: write one such as 02:00:00:00:00:01"
        ));
    }
    Ok(mac)
}
