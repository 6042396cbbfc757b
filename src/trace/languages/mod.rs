//! The table of languages.

mod at_frames;
mod dotnet;
mod elixir;
mod go;
mod java;
pub mod javascript;
mod perl;
mod php;
mod python;
mod ruby;
mod rust;

use super::language::Language;

pub(in crate::trace) use elixir::ELIXIR;

/// All languages. Where several have a rule for the same text, the first decides; the order of existing entries must not
/// change, because the locations in stored fingerprints depend on it.
pub static LANGUAGES: &[&Language] = &[
    &python::PYTHON,
    &javascript::JAVASCRIPT,
    &java::JAVA,
    &go::GO,
    &rust::RUST,
    &ruby::RUBY,
    &php::PHP,
    &dotnet::DOTNET,
    &ELIXIR,
    &perl::PERL,
];
