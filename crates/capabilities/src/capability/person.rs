//! What `input`, `approve` and `review` share: a call with texts, which a person answers.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use parole_durable::EffectClass;
use parole_policy::{Definition, Fact, Facts, Looks, Resource};

use crate::call::effect::{Answer, Await, Form, Function, Unformed};
use crate::error::json;

/// A capability whose calls are so many texts, which a person answers.
pub(crate) trait Person<const N: usize>: Send + Sync + 'static {
    /// The name that the journal has for its function.
    const NAME: &'static str;
    /// What the person gives.
    type Answer: Answer;
    /// What it declares.
    fn definition() -> &'static Arc<Definition>;
}

/// A call of one.
pub(crate) struct Asked<P, const N: usize>(PhantomData<P>);

impl<P, const N: usize> Asked<P, N> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: Person<N>, const N: usize> Function for Asked<P, N> {
    fn definition(&self) -> &Arc<Definition> {
        P::definition()
    }

    fn name(&self) -> Cow<'static, str> {
        P::NAME.into()
    }

    type Args = Texts<N>;
    type Form = Texts<N>;
    type Answer = P::Answer;
    type Slot = ();

    fn recorded(&self, args: &Texts<N>) -> Vec<u8> {
        args.recorded()
    }

    fn class(&self, _: &Texts<N>) -> EffectClass {
        EffectClass::Await
    }

    fn form(&self, args: Texts<N>, _: Looks, (): &()) -> Result<Texts<N>, Unformed<P::Answer>> {
        Ok(args)
    }
}

impl<P: Person<N>, const N: usize> Await for Asked<P, N> {}

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
