//! What `input`, `approve` and `review` share: a call with texts, which a person answers.

use parole_policy::{Fact, Facts, Resource};

use crate::call::effect::{Answer, Form};
use crate::error::json;

/// Texts by parameter name. They have one spelling.
pub(crate) struct Texts<const N: usize>(pub(crate) [(&'static str, String); N]);

impl<const N: usize> Texts<N> {
    /// What the journal has of them.
    pub(crate) fn recorded(&self) -> Vec<u8> {
        struct Object<'t>(&'t [(&'static str, String)]);
        impl serde::Serialize for Object<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(name, text)| (name, text)))
            }
        }
        json(&Object(&self.0))
    }
}

impl<const N: usize> Facts for Texts<N> {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, text)| Fact::Text(text))
    }
}

impl<const N: usize> Form for Texts<N> {}

/// An answer that the journal keeps as JSON.
pub(crate) fn decoded<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

impl Answer for String {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        decoded(&bytes)
    }
}

impl Answer for bool {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        decoded(&bytes)
    }
}
