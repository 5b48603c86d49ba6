//! Where a policy or a tier stands: a finite number, lower first.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in an order; never NaN and never infinite, so places compare.
#[derive(Clone, Copy, Debug)]
pub struct Order(f64);

impl Order {
    /// `None` for what has no place: NaN and the infinities.
    pub fn new(value: f64) -> Option<Order> {
        // Adding zero makes one of the two zeros.
        value.is_finite().then_some(Order(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Compares places of which one may be missing: what has none comes last.
    pub fn compare(a: Option<Order>, b: Option<Order>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => a.cmp(&b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Order) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Order) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Order) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl From<i32> for Order {
    fn from(value: i32) -> Order {
        Order(f64::from(value))
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // A whole number is shown as one, as operators write it: 100 and not 100.0.
        let whole = format!("{:.0}", self.0).parse::<i64>().ok();
        match whole.filter(|_| self.0.fract() == 0.0 && self.0.abs() < 1e15) {
            Some(whole) => s.serialize_i64(whole),
            None => s.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Order, D::Error> {
        d.deserialize_any(Visitor)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Order;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a finite number, such as 100")
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Order, E> {
        Order::new(v).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Float(v), &self))
    }

    #[allow(clippy::cast_precision_loss)] // What JSON's numbers are to Calico, too.
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Order, E> {
        self.visit_f64(v as f64)
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Order, E> {
        self.visit_f64(v as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_total_and_what_has_none_is_last() {
        assert_eq!(Order::new(f64::NAN), None);
        assert_eq!(Order::new(f64::NEG_INFINITY), None);
        assert_eq!(Order::new(-0.0), Order::new(0.0));
        let (low, high) = (Order::new(-1.5), Some(Order::from(100)));
        assert_eq!(Order::compare(low, high), Ordering::Less);
        assert_eq!(Order::compare(high, None), Ordering::Less);
        assert_eq!(Order::compare(None, low), Ordering::Greater);
        assert_eq!(Order::compare(None, None), Ordering::Equal);
    }

    #[test]
    fn whole_numbers_are_written_whole() {
        for (text, back) in [
            ("100", "100"),
            ("1e3", "1000"),
            ("-0.0", "0"),
            ("0.5", "0.5"),
            ("1e300", "1e+300"),
        ] {
            let order: Order = serde_json::from_str(text).unwrap();
            let written = serde_json::to_string(&order).unwrap();
            assert_eq!(written, back);
            assert_eq!(serde_json::from_str::<Order>(&written).unwrap(), order);
        }
    }
}
