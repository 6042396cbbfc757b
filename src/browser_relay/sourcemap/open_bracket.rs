//! Open brackets of a source, and the scopes that they contain.

/// Pseudo bracket of an arrow function whose body has no braces.
pub(super) const EXPRESSION: u8 = b'>';
/// Pseudo bracket of the module.
pub(super) const MODULE: u8 = b'.';

/// Bytes of a name that are kept.
pub(super) const NAME_BYTES_MAX: usize = 100;

/// An open bracket, with the state of the statement or member that is being read inside it.
#[derive(Default)]
pub(super) struct OpenBracket {
    /// `(`, `[`, `{`, `$` for the `${` of a template, or a pseudo bracket.
    pub(super) bracket: u8,
    /// The function or class whose body this bracket opens.
    pub(super) scope: Option<Scope>,
    /// Index of the innermost bracket up to this one that has a scope; 0 if none has.
    pub(super) scoped: usize,
    /// Index of the innermost bracket up to this one that has a named scope; 0 if none has.
    pub(super) named: usize,
    /// Line and column at which the current expression or statement starts.
    pub(super) expression_start: (u32, u32),
    /// Name that a function defined next would get.
    pub(super) target: Option<Box<str>>,
    /// Whether `target` applies until the statement ends.
    pub(super) is_target_fixed: bool,
    /// Whether the statement is a `const`, `let` or `var` declaration.
    pub(super) is_declaration: bool,
    /// Whether the next word is the name of a declared variable.
    pub(super) expects_declared_name: bool,
    /// Number of `?` without their `:`.
    pub(super) open_conditionals: u32,
    /// Number of `<` of type parameters without their `>`.
    pub(super) open_angles: u32,
    /// Word before the last `<`.
    pub(super) generic_name: Option<Box<str>>,
    pub(super) next_brace: NextBraceIs,
}

impl OpenBracket {
    /// Resets the state of the statement.
    pub(super) fn restart(&mut self) {
        let Self { bracket, scoped, named, .. } = *self;
        *self = Self { bracket, scope: self.scope.take(), scoped, named, ..Self::default() };
    }

    /// Whether the bracket opens the body of a class.
    pub(super) fn is_class(&self) -> bool {
        matches!(self.scope, Some(Scope::Class(_)))
    }

    /// Returns the name of a member, prefixed with the name of its class. A constructor gets the name of the class.
    pub(super) fn qualify(&self, member: &str) -> Box<str> {
        match &self.scope {
            Some(Scope::Class(Some(class))) if member == "constructor" => class.clone(),
            Some(Scope::Class(Some(class))) => format!("{class}.{member}").into(),
            _ => member.into(),
        }
    }
}

/// A function or a class, with its name.
pub(super) enum Scope {
    Function(Option<Box<str>>),
    Class(Option<Box<str>>),
}

impl Scope {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Function(name) | Self::Class(name) => name.as_deref(),
        }
    }
}

/// The meaning of the next opening brace, with the name of the function or class.
#[derive(Default)]
pub(super) enum NextBraceIs {
    /// No body.
    #[default]
    NoBody,
    /// The body of a `function`, if its parameters have been read.
    Function {
        name: Option<Box<str>>,
        has_parameters: bool,
    },
    ClassBody(Option<Box<str>>),
    /// The body of a method: a word and parentheses have been read.
    MethodBody(Option<Box<str>>),
    /// The body of an arrow function. The body starts with the next token even if that is not a brace.
    ArrowBody(Option<Box<str>>),
}

/// Returns the beginning of a name, at most [`NAME_BYTES_MAX`] bytes.
pub(super) fn truncate_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}
