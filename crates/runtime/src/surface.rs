//! What a component imports and exports, read from its bytes: nothing is compiled for it, and no function body is looked
//! at.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parole_policy::{ErrorType, Function, Int, MAX_TYPE_DEPTH, MAX_TYPES, Type, field};
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType,
};
use wasmparser::types::Types;
use wasmparser::{Parser, Payload, PrimitiveValType, ValidPayload, Validator, WasmFeatures};
use wasmtime::Engine;

use crate::report::{NAME_MAX, TEXT_MAX, cut};

/// The largest guest in its text form that is read, in bytes.
pub const WAT_MAX: usize = 8 << 20;
/// The most imports, and the most exports, of a component that are looked at.
const ITEMS_MAX: usize = 1_000;
/// The most members of an interface that are looked at.
const MEMBERS_MAX: usize = 512;
/// Types of components and interfaces that may be opened inside others in one section. They are read by recursion.
const NESTED_MAX: usize = 200;
/// What all types of all functions may weigh together: each type counts, and each name for every 16 bytes of it. An enum
/// counts where it stands, so this bounds memory and time whatever a guest makes of few bytes.
const WEIGHT_MAX: usize = 100_000;

/// What a component imports and exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surface {
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    /// Bytes of code in all its modules.
    pub code: u64,
}

/// An import or an export.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A type that is named at the top.
    Type,
    /// A function.
    Function(Box<Member>),
    /// An interface.
    Interface(Vec<Member>),
    /// Something else: a module, a component.
    Other,
}

/// A member of an interface that is no plain type.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub name: String,
    /// The function; the error says why it has no types that can be written: a resource, a stream, something else.
    pub function: Result<Function, String>,
    /// Whether a resource is among its parameters or in its result: no promise can hold one.
    pub has_resource: bool,
}

impl Member {
    fn odd(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), function: Err(why.to_owned()), has_resource: false }
    }
}

impl Kind {
    /// Whether it carries no authority: an interface without functions and resources.
    pub(crate) fn is_types_only(&self) -> bool {
        matches!(self, Kind::Interface(members) if members.is_empty())
    }

    /// The functions, as WIT has them.
    pub(crate) fn functions(&self) -> Vec<String> {
        let text = |member: &Member| match &member.function {
            Ok(function) => cut(function.to_string(), TEXT_MAX),
            Err(why) => format!("{}: {why}", cut(member.name.as_str(), NAME_MAX)),
        };
        match self {
            Kind::Function(member) => vec![text(member)],
            Kind::Interface(members) => members.iter().map(text).collect(),
            Kind::Type | Kind::Other => Vec::new(),
        }
    }
}

/// The bytes of a component: those of a guest, or what its text stands for.
///
/// # Errors
/// What the guest is instead.
pub(crate) fn component(guest: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if Engine::detect_precompiled(guest).is_some() {
        return Err("it is precompiled machine code, which is never taken from outside".into());
    }
    // Some editors begin a text with a byte order mark.
    let guest = guest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(guest);
    let bytes = match guest {
        [0, b'a', b's', b'm', ..] => Cow::Borrowed(guest),
        text if std::str::from_utf8(text).is_ok_and(|text| text.contains('(')) => {
            if text.len() > WAT_MAX {
                return Err(format!("its text is over {WAT_MAX} bytes: make it binary (`wasm-tools parse`)"));
            }
            wat::parse_bytes(text).map_err(|error| cut(error.to_string(), TEXT_MAX))?
        }
        _ => return Err("it is neither a WebAssembly component nor its text form".into()),
    };
    match *bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("it is a core module; expected a component (wrap it with `wasm-tools component new`)".into())
        }
        _ => Ok(bytes),
    }
}

impl Surface {
    /// Reads a component. `None`: it is none, as whoever compiles it is going to say.
    pub(crate) fn read(component: &[u8]) -> Option<Surface> {
        catch_unwind(AssertUnwindSafe(|| read(component))).ok()?
    }
}

fn read(component: &[u8]) -> Option<Surface> {
    // What the engine takes is less: it has the last word.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let (mut imports, mut exports, mut depth, mut types) = (Vec::new(), Vec::new(), 0_usize, None);
    let mut code = 0_u64;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.ok()?;
        if let Payload::ComponentTypeSection(section) = &payload
            && nested(component.get(section.range())?) > NESTED_MAX
        {
            return None;
        }
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionStart { size, .. } => code += u64::from(*size),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.clone().into_iter().take(ITEMS_MAX + 1) {
                    imports.push(import.ok()?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section.clone().into_iter().take(ITEMS_MAX + 1) {
                    exports.push(export.ok()?.name.name.to_owned());
                }
            }
            _ => {}
        }
        // The bodies of functions are handed back, and left as they are.
        if let ValidPayload::End(all) = validator.payload(&payload).ok()? {
            types = Some(all);
        }
        if imports.len().max(exports.len()) > ITEMS_MAX {
            return None;
        }
    }
    let types = types?;
    let mut left = WEIGHT_MAX;
    let mut of = |names: Vec<String>, import: bool| {
        let item = |name: String| {
            let found =
                if import { types.component_item_for_import(&name) } else { types.component_item_for_export(&name) };
            let kind = kind(&types, &name, found?.ty, &mut left);
            Some(Item { name, kind })
        };
        names.into_iter().map(item).collect::<Option<Vec<_>>>()
    };
    Some(Surface { imports: of(imports, true)?, exports: of(exports, false)?, code })
}

/// How many types of components and interfaces are opened inside others, at most: each is a declaration (1) of such a type
/// (0x41, 0x42). A name of one letter may look like one.
fn nested(section: &[u8]) -> usize {
    section.windows(2).filter(|pair| matches!(pair, [1, 0x41 | 0x42])).count()
}

fn kind(types: &Types, name: &str, entity: ComponentEntityType, left: &mut usize) -> Kind {
    match entity {
        ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. } => Kind::Other,
        ComponentEntityType::Type { .. } => Kind::Type,
        ComponentEntityType::Func(id) => Kind::Function(Box::new(function(types, name, id, left))),
        ComponentEntityType::Instance(id) => {
            let exports = &types[id].exports;
            if exports.len() > MEMBERS_MAX {
                let why = format!("one of over {MEMBERS_MAX} members of its interface");
                return Kind::Interface(exports.keys().take(1).map(|name| Member::odd(name, &why)).collect());
            }
            let member = |(name, item): (&String, &wasmparser::component_types::ComponentItem)| match item.ty {
                ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. } => {
                    Some(Member::odd(name, "a resource"))
                }
                ComponentEntityType::Type { .. } => None,
                ComponentEntityType::Func(id) => Some(function(types, name, id, left)),
                _ => Some(Member::odd(name, "no function")),
            };
            Kind::Interface(exports.iter().filter_map(member).collect())
        }
        _ => Kind::Other,
    }
}

fn function(types: &Types, name: &str, id: ComponentFuncTypeId, all: &mut usize) -> Member {
    let own = &types[id];
    let mut reader = Reader { types, left: MAX_TYPES.min(*all), has_resource: false };
    let mut read = || {
        if own.async_ {
            return Err("an `async func`".to_owned());
        }
        let mut params = Vec::new();
        for (name, ty) in &own.params {
            reader.spend(1 + name.len() / 16)?;
            params.push(field(name, reader.of(ty, 1)?));
        }
        let returned = own.result.as_ref().map(|ty| reader.of(ty, 1)).transpose()?;
        let part = |of: Option<Arc<Type>>| of.map(|of| (*of).clone());
        Ok(match returned {
            Some(Type::Result(ok, error)) => {
                Function { error: ErrorType::Own(part(error)), ..Function::new(name, name, params, part(ok)) }
            }
            other => Function::infallible(name, name, params, other),
        })
    };
    let function = read();
    *all -= MAX_TYPES.min(*all) - reader.left;
    Member { name: name.to_owned(), function, has_resource: reader.has_resource }
}

/// Reads types. A guest chooses them: they are counted, each as often as it stands there.
struct Reader<'t> {
    types: &'t Types,
    left: usize,
    has_resource: bool,
}

impl Reader<'_> {
    fn spend(&mut self, weight: usize) -> Result<(), String> {
        let left = self.left.checked_sub(weight);
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or_else(|| "made of more types than are looked at".to_owned())
    }

    /// Names of cases, fields or flags.
    fn words<'w>(&mut self, words: impl Iterator<Item = &'w str>) -> Result<Arc<[Arc<str>]>, String> {
        let mut all = Vec::new();
        for word in words {
            self.spend(1 + word.len() / 16)?;
            all.push(Arc::from(word));
        }
        Ok(all.into())
    }

    fn of(&mut self, ty: &ComponentValType, depth: usize) -> Result<Type, String> {
        if depth > MAX_TYPE_DEPTH {
            return Err(format!("types that stand over {MAX_TYPE_DEPTH} deep in one another"));
        }
        self.spend(1)?;
        match ty {
            ComponentValType::Primitive(own) => primitive(*own),
            ComponentValType::Type(id) => self.defined(&self.types[*id], depth + 1),
        }
    }

    fn maybe(&mut self, ty: Option<&ComponentValType>, depth: usize) -> Result<Option<Type>, String> {
        ty.map(|ty| self.of(ty, depth)).transpose()
    }

    fn defined(&mut self, own: &ComponentDefinedType, depth: usize) -> Result<Type, String> {
        Ok(match own {
            ComponentDefinedType::Primitive(own) => return primitive(*own),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter().map(|(name, ty)| {
                    self.spend(name.len() / 16)?;
                    Ok(field(name, self.of(ty, depth)?))
                });
                Type::Record(fields.collect::<Result<Vec<_>, String>>()?.into())
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter().map(|(name, case)| {
                    self.spend(1 + name.len() / 16)?;
                    Ok((Arc::from(name.as_str()), self.maybe(case.ty.as_ref(), depth)?))
                });
                Type::Variant(cases.collect::<Result<Vec<_>, String>>()?.into())
            }
            ComponentDefinedType::List { element: ComponentValType::Primitive(PrimitiveValType::U8), .. } => {
                Type::Bytes
            }
            ComponentDefinedType::List { element, .. } => Type::list(self.of(element, depth)?),
            ComponentDefinedType::Tuple(tuple) => {
                let types = tuple.types.iter().map(|ty| self.of(ty, depth));
                Type::Tuple(types.collect::<Result<Vec<_>, String>>()?.into())
            }
            ComponentDefinedType::Flags(words) => Type::Flags(self.words(words.iter().map(|word| word.as_str()))?),
            ComponentDefinedType::Enum(words) => Type::Enum(self.words(words.iter().map(|word| word.as_str()))?),
            ComponentDefinedType::Option { ty, .. } => Type::option(self.of(ty, depth)?),
            ComponentDefinedType::Result { ok, err, .. } => {
                let ok = self.maybe(ok.as_ref(), depth)?.map(Arc::new);
                Type::Result(ok, self.maybe(err.as_ref(), depth)?.map(Arc::new))
            }
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                self.has_resource = true;
                Type::Handle
            }
            ComponentDefinedType::Future { .. } => return Err("it has a `future`".to_owned()),
            ComponentDefinedType::Stream { .. } => return Err("it has a `stream`".to_owned()),
            ComponentDefinedType::Map { .. } => return Err("it has a `map`".to_owned()),
            ComponentDefinedType::FixedLengthList { .. } => return Err("it has a list of fixed length".to_owned()),
        })
    }
}

fn primitive(own: PrimitiveValType) -> Result<Type, String> {
    Ok(match own {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::Int(Int::S8),
        PrimitiveValType::U8 => Type::Int(Int::U8),
        PrimitiveValType::S16 => Type::Int(Int::S16),
        PrimitiveValType::U16 => Type::Int(Int::U16),
        PrimitiveValType::S32 => Type::Int(Int::S32),
        PrimitiveValType::U32 => Type::Int(Int::U32),
        PrimitiveValType::S64 => Type::Int(Int::S64),
        PrimitiveValType::U64 => Type::Int(Int::U64),
        PrimitiveValType::F32 => Type::Single,
        PrimitiveValType::F64 => Type::Real,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::TEXT,
        PrimitiveValType::ErrorContext => return Err("it has an `error-context`".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(wat: &str) -> Vec<Member> {
        let read = Surface::read(&wat::parse_str(wat).unwrap()).unwrap();
        match read.imports.into_iter().next().unwrap().kind {
            Kind::Interface(members) => members,
            other => panic!("{other:?}"),
        }
    }

    fn number(of: usize) -> Vec<u8> {
        let (mut left, mut bytes) = (of, Vec::new());
        loop {
            let byte = u8::try_from(left & 0x7f).unwrap();
            left >>= 7;
            if left == 0 {
                bytes.push(byte);
                return bytes;
            }
            bytes.push(byte | 0x80);
        }
    }

    /// Types of interfaces, each declared in the one before.
    fn nest(depth: usize) -> Vec<u8> {
        let mut section = [[0x42, 1, 1].repeat(depth), vec![0x42, 0]].concat();
        section.insert(0, 1);
        [b"\0asm\x0d\0\x01\0\x07".to_vec(), number(section.len()), section].concat()
    }

    #[test]
    fn types_that_are_opened_in_one_another_are_counted_before_they_are_read() {
        assert!(Surface::read(&nest(20)).is_some());
        for depth in [NESTED_MAX + 1, 3_000, 1_000_000] {
            assert!(Surface::read(&nest(depth)).is_none(), "{depth}");
        }
    }

    #[test]
    fn a_component_has_so_many_imports_and_exports() {
        let types = |count: usize| -> String {
            (0..count).map(|at| format!("(type $t{at} u8) (export \"e{at}\" (type $t{at}))")).collect()
        };
        let imports = |count: usize| -> String { (0..count).map(|at| format!("(import \"f{at}\" (func))")).collect() };
        let read = |inside: String| Surface::read(&wat::parse_str(format!("(component {inside})")).unwrap());
        assert_eq!(read(types(ITEMS_MAX)).unwrap().exports.len(), ITEMS_MAX);
        assert_eq!(read(imports(ITEMS_MAX)).unwrap().imports.len(), ITEMS_MAX);
        assert!(read(types(ITEMS_MAX + 1)).is_none() && read(imports(ITEMS_MAX + 1)).is_none());
    }

    #[test]
    fn a_text_has_so_many_bytes() {
        let text = |most: usize| {
            let mut text = b"(component)".to_vec();
            text.resize(most, b' ');
            text
        };
        assert!(component(&text(WAT_MAX)).is_ok());
        assert!(component(&text(WAT_MAX + 1)).unwrap_err().contains("its text is over 8388608 bytes"));
    }

    /// An enum of many long names, in many functions: what is kept is bounded, whatever the bytes say.
    #[test]
    fn what_is_kept_of_types_is_bounded() {
        let long = "n".repeat(2_000);
        let cases: Vec<String> = (0..200).map(|at| format!("\"{long}{at}\"")).collect();
        let functions: Vec<String> = (0..400).map(|at| format!("(export \"f{at}\" (func (param \"a\" 1)))")).collect();
        let wat = format!(
            "(component (import \"a:b/c\" (instance (type (enum {})) (export \"e\" (type (eq 0))) {})))",
            cases.join(" "),
            functions.join(" ")
        );
        let all = members(&wat);
        assert_eq!(all.len(), 400);
        assert!(all.iter().all(|member| member.function.is_err()), "{:?}", all[0].name);
        let kept: usize = all.iter().map(|member| format!("{member:?}").len()).sum();
        assert!(kept < 1 << 20, "{kept}");
    }

    #[test]
    fn an_interface_has_so_many_members() {
        let wat = |count: usize| {
            let functions: Vec<String> = (0..count).map(|at| format!("(export \"f{at}\" (func))")).collect();
            format!("(component (import \"a:b/c\" (instance {})))", functions.join(" "))
        };
        assert_eq!(members(&wat(MEMBERS_MAX)).len(), MEMBERS_MAX);
        let over = members(&wat(MEMBERS_MAX + 1));
        assert!(over.len() == 1 && over[0].function.as_ref().unwrap_err().contains("over 512 members"));
    }

    #[test]
    fn a_resource_is_seen_where_it_stands() {
        let own = "(import \"a:b/c\" (instance (export \"r\" (type (sub resource))) (type (own 0)) \
                   (export \"f\" (func (result 1)))))";
        let all = members(&format!("(component {own})"));
        assert!(all.iter().find(|member| member.name == "f").unwrap().has_resource);
    }
}
