//! A serde deserializer over a JSON value that knows where it stands.

use std::cell::RefCell;

use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

use super::error::ReadError;
use super::{Fault, MOST_FAULTS, Step, render};
use crate::validate::nearest;

/// Where the reader stands: a chain up the stack, so that reading allocates nothing for it.
pub(super) enum Place<'p> {
    Root(&'p str),
    Field(&'p Place<'p>, &'p str),
    Index(&'p Place<'p>, usize),
}

impl Place<'_> {
    pub(super) fn steps(&self) -> Vec<Step> {
        let (mut steps, last) = match self {
            Place::Root(_) => return Vec::new(),
            Place::Field(up, name) => (up.steps(), Step::Field((*name).to_owned())),
            Place::Index(up, i) => (up.steps(), Step::Index(*i)),
        };
        steps.push(last);
        steps
    }

    fn root(&self) -> &str {
        match self {
            Place::Root(root) => root,
            Place::Field(up, _) | Place::Index(up, _) => up.root(),
        }
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de, 'p> {
    /// What is read.
    pub(super) value: &'de Value,
    /// Where it stands.
    pub(super) at: &'p Place<'p>,
    /// Fields that were set aside.
    pub(super) unknown: &'p RefCell<Vec<Fault>>,
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(u), _, _) => visitor.visit_u64(u),
                (_, Some(i), _) => visitor.visit_i64(i),
                (_, _, f) => visitor.visit_f64(f.unwrap_or(f64::NAN)),
            },
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::Array(items) => visitor.visit_seq(Items {
                of: self,
                items,
                next: 0,
            }),
            Value::Object(map) => visitor.visit_map(Fields::new(self, map, None)),
        }
        .map_err(|e| e.at(self.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Object(map) => visitor
                .visit_map(Fields::new(self, map, Some(known)))
                .map_err(|e| e.at(self.at)),
            // Without this serde would take a list for the fields in order.
            Value::Array(_) => {
                let found = de::Unexpected::Seq;
                Err(<ReadError as de::Error>::invalid_type(found, &"a mapping").at(self.at))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::String(s) => {
                let variant: de::value::StrDeserializer<'_, ReadError> =
                    s.as_str().into_deserializer();
                visitor.visit_enum(variant).map_err(|e| e.at(self.at))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        // YAML 1.1's words, which Kubernetes' and Calico's tools read as booleans.
        let word = self.value.as_str().unwrap_or_default().to_ascii_lowercase();
        match word.as_str() {
            "y" | "yes" | "on" => visitor.visit_bool(true),
            "n" | "no" | "off" => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de, 'p> {
    of: Reader<'de, 'p>,
    items: &'de [Value],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Some(value) = self.items.get(self.next) else {
            return Ok(None);
        };
        let at = Place::Index(self.of.at, self.next);
        self.next += 1;
        seed.deserialize(Reader {
            value,
            at: &at,
            unknown: self.of.unknown,
        })
        .map(Some)
        .map_err(|e| e.at(&at))
    }
}

struct Fields<'de, 'p> {
    of: Reader<'de, 'p>,
    rest: serde_json::map::Iter<'de>,
    /// The fields of a struct; `None` in a free map.
    known: Option<&'static [&'static str]>,
    current: Option<(&'de str, &'de Value)>,
}

impl<'de, 'p> Fields<'de, 'p> {
    fn new(
        of: Reader<'de, 'p>,
        map: &'de Map<String, Value>,
        known: Option<&'static [&'static str]>,
    ) -> Self {
        Fields {
            of,
            rest: map.iter(),
            known,
            current: None,
        }
    }

    fn set_aside(&self, name: &str, value: &Value, known: &'static [&'static str]) {
        let mut unknown = self.of.unknown.borrow_mut();
        if unknown.len() >= MOST_FAULTS {
            return;
        }
        let mend = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None if known.is_empty() => "remove it".to_owned(),
            None => format!("known here: {}", known.join(", ")),
        };
        unknown.push(Fault {
            field: render(self.of.at.root(), &Place::Field(self.of.at, name).steps()),
            value: value.to_string(),
            problem: "unknown field".to_owned(),
            mend,
        });
    }
}

impl<'de> de::MapAccess<'de> for Fields<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        while let Some((name, value)) = self.rest.next() {
            if let Some(known) = self.known {
                if !known.contains(&name.as_str()) {
                    self.set_aside(name, value, known);
                    continue;
                }
                if value.is_null() || value.as_str() == Some("") {
                    continue;
                }
            }
            self.current = Some((name, value));
            let key: de::value::BorrowedStrDeserializer<'_, ReadError> =
                de::value::BorrowedStrDeserializer::new(name);
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ReadError> {
        let Some((name, value)) = self.current.take() else {
            return Err(de::Error::custom("value asked for before its key"));
        };
        let at = Place::Field(self.of.at, name);
        seed.deserialize(Reader {
            value,
            at: &at,
            unknown: self.of.unknown,
        })
        .map_err(|e| e.at(&at))
    }
}
