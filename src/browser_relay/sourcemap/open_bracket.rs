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
    /// Index of the innermost function up to this bracket whose body is not indented; 0 for the module.
    pub(super) top_level: usize,
    pub(super) opened_line: u32,
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
    /// Number of `<` of type parameters, type arguments and JSX tags without their `>`.
    pub(super) open_angles: u32,
    pub(super) type_part: TypePart,
    /// Whether the bracket opens the value of a JSX attribute, whose name is `target`.
    pub(super) is_attribute: bool,
    /// Word before the last `<`.
    pub(super) generic_name: Option<Box<str>>,
    pub(super) next_brace: NextBraceIs,
}

impl OpenBracket {
    /// Resets the state of the statement.
    pub(super) fn restart(&mut self) {
        let Self { bracket, scoped, named, top_level, opened_line, .. } = *self;
        let scope = self.scope.take();
        *self = Self { bracket, scope, scoped, named, top_level, opened_line, ..Self::default() };
    }

    /// Whether the innermost function has a body without indentation.
    pub(super) fn is_in_unindented_function(&self) -> bool {
        self.scoped > 0 && self.scoped == self.top_level
    }

    /// Whether the bracket opens the body of a class.
    pub(super) fn is_class(&self) -> bool {
        matches!(self.scope, Some(Scope::Class(_)))
    }

    /// Whether the next token belongs to a type or to a JSX tag.
    pub(super) fn is_in_type(&self) -> bool {
        self.open_angles > 0 || self.type_part != TypePart::NoType
    }

    /// Processes `=` after the word or string `name` if any. The function that is assigned gets the last name: `b` in
    /// `const a = b = () => …`.
    pub(super) fn assign(&mut self, name: Option<&str>, is_class_attribute: bool) {
        if is_class_attribute {
            self.next_brace = NextBraceIs::NoBody;
        }
        if self.open_angles > 0 {
            return;
        }
        let is_annotated = std::mem::take(&mut self.type_part) == TypePart::Annotation;
        if !is_annotated && (name.is_some() || !self.is_target_fixed) && self.target.as_deref() != name {
            self.target = name.map(Box::from);
        }
    }

    /// Processes `<` after the word `name` if any: the start of type parameters, type arguments or a JSX tag, or an
    /// operator.
    pub(super) fn open_angle(&mut self, starts_operand: bool, name: Option<&str>) {
        let is_declared = matches!(self.next_brace, NextBraceIs::ClassBody(_) | NextBraceIs::Function { .. })
            || self.is_class() && name.is_some() && self.target.as_deref() == name;
        let is_counted = starts_operand || is_declared || self.is_in_type();
        if self.open_angles == 0 {
            self.generic_name = name.filter(|_| !starts_operand).map(Box::from);
        }
        self.open_angles += u32::from(is_counted);
    }

    /// Processes `:` after the word or string `name` if any. `is_optional` if it follows `?`.
    pub(super) fn process_colon(&mut self, name: Option<&str>, is_optional: bool, follows_parameters: bool) {
        if self.open_conditionals > 0 {
            self.open_conditionals -= 1;
            if !is_optional {
                return self.drop_method_body();
            }
        }
        if self.is_in_type() {
            return;
        }
        if follows_parameters {
            self.type_part = TypePart::ReturnType;
        } else if self.is_declaration || self.is_class() && self.is_target_fixed {
            self.type_part = TypePart::Annotation;
        } else if !self.is_target_fixed && name.is_some() && self.bracket == b'{' {
            self.target = name.map(Box::from);
        }
    }

    /// Processes `,` between declarations, members or arguments.
    pub(super) fn end_item(&mut self) {
        (self.target, self.is_target_fixed, self.open_conditionals) = (None, false, 0);
        self.type_part = TypePart::NoType;
        self.expects_declared_name = self.is_declaration;
        self.drop_method_body();
    }

    /// Processes `=>`, unless it belongs to a type.
    pub(super) fn expect_arrow_body(&mut self) {
        // After the parameters of a function or a method, an arrow belongs to a type.
        let is_type = self.open_angles > 0
            || self.type_part == TypePart::Annotation
            || matches!(
                self.next_brace,
                NextBraceIs::Function { has_parameters: true, .. } | NextBraceIs::MethodBody(_)
            );
        if !is_type {
            self.type_part = TypePart::NoType;
            self.next_brace = NextBraceIs::ArrowBody(self.target.as_deref().map(|name| self.qualify(name)));
        }
    }

    /// Returns the function or class whose body the opening brace at this position starts. The brace directly follows the
    /// parameters of a method, unless it has a return type.
    pub(super) fn take_body(&mut self, follows_parameters: bool) -> Option<Scope> {
        let has_return_type = std::mem::take(&mut self.type_part) == TypePart::ReturnType;
        match std::mem::take(&mut self.next_brace) {
            NextBraceIs::Function { name, has_parameters: true } => Some(Scope::Function(name)),
            NextBraceIs::ClassBody(name) => Some(Scope::Class(name)),
            NextBraceIs::MethodBody(name) if has_return_type || follows_parameters => {
                Some(Scope::Function(name.map(|name| self.qualify(&name))))
            }
            _ => None,
        }
    }

    fn drop_method_body(&mut self) {
        if matches!(self.next_brace, NextBraceIs::MethodBody(_)) {
            self.next_brace = NextBraceIs::NoBody;
        }
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

/// Notes at a line without indentation whether this line is the first one in the body of the innermost function. Some
/// bundlers do not indent the body of the function around a module. `previous_line` is the line of the previous token.
pub(super) fn mark_unindented_function(open: &mut [OpenBracket], previous_line: u32) {
    let function = open[open.len() - 1].scoped;
    let OpenBracket { bracket, opened_line, .. } = open[function];
    if bracket == b'{' && opened_line == previous_line && !open[function].is_class() {
        open[function..].iter_mut().for_each(|open| open.top_level = function);
    }
}

/// Kind of the type that is being read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypePart {
    #[default]
    NoType,
    /// Type of a variable or class field. It ends before `=` and can contain arrows.
    Annotation,
    /// Type that a function returns. It ends before the body or the arrow.
    ReturnType,
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
