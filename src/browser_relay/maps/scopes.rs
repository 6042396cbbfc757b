//! Which function each line and column of a source is in, told from its text.
//!
//! A mapping's name is that of the word at its position, not that of the function around it, and what was called at a
//! position is often not what the function is called: callbacks, values, methods. Node looks at the mapping of the
//! enclosing function's start, which only an engine knows, and then, as Sentry's older processor and `source-map-support`,
//! at the name of the caller's position; Sentry now reads scopes from the minified file, which is not uploaded here. The
//! original source is in nearly every map, and there the functions still have their names. So it is read once, when the
//! map is uploaded, as far as words and brackets say it, and a frame is called what V8 would have called it before it was
//! minified: `Cart.checkout` in a class, `load` for `const load = async () =>`, nothing for a callback.

use super::lexer::{Lexer, Spot, Token};

/// Brackets open at once that are followed.
const LEVELS_MAX: usize = 1_000;
/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 100;
/// Brackets that a closing one may skip because their own is missing.
const UNCLOSED_MAX: usize = 16;

/// The function around a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around<'a> {
    /// None: the module itself.
    Module,
    /// One that has no name, and the innermost around it that has one.
    Anonymous(Option<&'a str>),
    Named(&'a str),
}

/// Follows a source line by line.
pub(super) struct Scopes {
    lexer: Lexer,
    /// What is open, outermost first; the first is the module.
    levels: Vec<Level>,
    last: Last,
    /// The latest word or string.
    word: String,
    /// Lines so far, and where the function around changed last, by line and column.
    line: u32,
    changed: (u32, u32),
}

/// The bracket of an arrow function's body that has no braces, and of the module.
const EXPRESSION: u8 = b'>';
const MODULE: u8 = b'.';

/// One open bracket, and what was read in it that what follows depends on.
#[derive(Default)]
struct Level {
    bracket: u8,
    scope: Option<Scope>,
    /// The innermost level up to this one that has a scope, and that has one with a name; 0 where none has.
    scoped: usize,
    named: usize,
    /// Where the latest expression or statement began, by line and column.
    head: (u32, u32),
    /// What a function that comes now would be called, and whether that stands until the statement ends.
    target: Option<Box<str>>,
    fixed: bool,
    /// Within `const`, `let` or `var`, and whether a name is due.
    declares: bool,
    declaring: bool,
    /// `?` without `:` yet.
    questions: u32,
    /// `<` of type parameters without `>` yet.
    angles: u32,
    /// The word before the latest `<`.
    generic: Option<Box<str>>,
    awaits: Awaits,
}

impl Level {
    /// Forgets what a statement said.
    fn restart(&mut self) {
        let Self { bracket, scoped, named, .. } = *self;
        *self = Self { bracket, scope: self.scope.take(), scoped, named, ..Self::default() };
    }
}

enum Scope {
    Function(Option<Box<str>>),
    Class(Option<Box<str>>),
}

impl Scope {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Function(name) | Self::Class(name) => name.as_deref(),
        }
    }
}

/// What the next brace may be the body of.
#[derive(Default)]
enum Awaits {
    #[default]
    Nothing,
    /// `function`, and whether its parameters are past.
    Function(Option<Box<str>>, bool),
    Class(Option<Box<str>>),
    /// A word and parentheses.
    Method(Option<Box<str>>),
    /// `=>`; its body begins with whatever comes next.
    Arrow(Option<Box<str>>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Word,
    Quoted,
    Value,
    Open,
    Close(u8),
    Sign(u8),
}

/// Words that are followed by parentheses or a block and are no methods.
const CONTROL: [&str; 16] = [
    "if", "for", "while", "switch", "catch", "with", "return", "typeof", "await", "yield", "throw", "new", "else",
    "do", "async", "function",
];
/// Words behind which a line goes on.
const UNFINISHED: [&str; 18] = [
    "const", "let", "var", "export", "default", "import", "from", "extends", "else", "function", "class", "async",
    "static", "typeof", "new", "case", "return", "throw",
];
/// Words that go on with the line before.
const CONTINUING: [&str; 7] = ["instanceof", "in", "of", "as", "satisfies", "extends", "implements"];
/// Words before the name of a class's member.
const MODIFIERS: [&str; 10] =
    ["static", "async", "get", "set", "public", "private", "protected", "readonly", "override", "accessor"];

impl Scopes {
    pub(super) fn new() -> Self {
        let module = Level { bracket: MODULE, ..Level::default() };
        Self {
            lexer: Lexer::default(),
            levels: vec![module],
            last: Last::Sign(b';'),
            word: String::new(),
            line: 0,
            changed: (0, 0),
        }
    }

    /// Reads a line, or a part of one that begins at column `start`, and tells from which column on the function around
    /// is another. Columns count from 0 in UTF-16 units.
    pub(super) fn read(&mut self, part: &str, start: u32, mut changed: impl FnMut(u32, Around<'_>)) {
        let mut lexer = std::mem::take(&mut self.lexer);
        self.line += u32::from(start == 0);
        if start == 0 && lexer.is_fresh(part) {
            lexer.reset();
            self.forget(0, &mut changed);
        }
        lexer.read(part, start, |token, spot| self.take(token, spot, &mut changed));
        self.lexer = lexer;
    }

    fn forget(&mut self, column: u32, changed: &mut impl FnMut(u32, Around<'_>)) {
        let inside = self.around() != Around::Module;
        self.levels.truncate(1);
        self.end_statement();
        self.last = Last::Sign(b';');
        if inside {
            self.tell(column, changed);
        }
    }

    fn around(&self) -> Around<'_> {
        let name = |at: usize| self.levels[at].scope.as_ref().and_then(Scope::name);
        let Level { scoped, named, .. } = self.levels[self.levels.len() - 1];
        match name(scoped) {
            _ if scoped == 0 => Around::Module,
            Some(name) => Around::Named(name),
            None => Around::Anonymous(name(named)),
        }
    }

    fn take(&mut self, token: Token<'_>, spot: Spot, changed: &mut impl FnMut(u32, Around<'_>)) {
        if let Awaits::Arrow(name) = &mut self.top().awaits {
            let scope = Some(Scope::Function(name.take()));
            self.top().awaits = Awaits::Nothing;
            if token == Token::Open(b'{') {
                self.push(b'{', scope, spot.column, changed);
                self.last = Last::Open;
                return;
            }
            self.push(EXPRESSION, scope, spot.column, changed);
        }
        let starts = self.starts(token, spot);
        if starts && spot.leads {
            self.end_expressions(spot.column, changed);
            if !matches!(self.top().bracket, b'(' | b'[') {
                self.end_statement();
            }
        }
        if starts || self.begins_expression() {
            self.top().head = (self.line, spot.column);
        }
        self.last = match token {
            Token::Word(word) => {
                self.word(word, starts);
                Last::Word
            }
            Token::Quoted(text) => {
                self.remember(text);
                Last::Quoted
            }
            Token::Value => Last::Value,
            Token::Open(bracket) => {
                self.open(bracket, spot, changed);
                Last::Open
            }
            Token::Close(bracket) => {
                self.close(bracket, spot, changed);
                Last::Close(bracket)
            }
            Token::Arrow => {
                // Behind the parameters of a function or a method it belongs to a type.
                if !matches!(self.top().awaits, Awaits::Function(_, true) | Awaits::Method(_)) {
                    self.top().awaits = Awaits::Arrow(self.member_name());
                }
                Last::Sign(b'>')
            }
            Token::Sign(sign) => {
                self.sign(sign, spot, changed);
                Last::Sign(sign)
            }
        };
    }

    /// Whether a statement or a member begins with this token.
    fn starts(&mut self, token: Token<'_>, spot: Spot) -> bool {
        let begins = match token {
            Token::Word(word) => !CONTINUING.contains(&word),
            Token::Sign(sign) => sign == b'@',
            _ => false,
        };
        begins
            && match self.last {
                Last::Sign(b';') | Last::Open => true,
                Last::Close(b'}') => spot.leads || self.top().bracket != b'(',
                Last::Word => spot.leads && !UNFINISHED.contains(&self.word.as_str()),
                Last::Quoted | Last::Value | Last::Close(_) => spot.leads,
                Last::Sign(_) => false,
            }
    }

    /// Whether what comes is the beginning of an expression. What is assigned to a member of a class begins with that.
    fn begins_expression(&mut self) -> bool {
        let level = self.top();
        let member = level.fixed && matches!(level.scope, Some(Scope::Class(_)));
        match self.last {
            Last::Sign(_) => !member,
            Last::Open => true,
            Last::Word => UNFINISHED.contains(&&*self.word) && !matches!(&*self.word, "async" | "function" | "static"),
            _ => false,
        }
    }

    fn word(&mut self, word: &str, starts: bool) {
        let last = self.last;
        let after_modifier = last == Last::Word && MODIFIERS.contains(&self.word.as_str());
        let behind = last == Last::Word && matches!(self.word.as_str(), "function" | "class");
        let exported = last == Last::Word && self.word == "export";
        let level = self.top();
        let in_class = matches!(level.scope, Some(Scope::Class(_)));
        match (word, &mut level.awaits) {
            _ if last == Last::Sign(b'.') => {}
            ("function", _) => level.awaits = Awaits::Function(level.target.clone(), false),
            ("class", _) => level.awaits = Awaits::Class(level.target.clone()),
            ("const" | "let" | "var", _) => {
                level.restart();
                (level.declares, level.declaring) = (true, true);
            }
            ("default", _) if exported => level.target = Some("default".into()),
            (_, Awaits::Function(name, false)) if behind || last == Last::Sign(b'*') => *name = Some(kept(word)),
            ("extends" | "implements", Awaits::Class(_)) => {}
            (_, Awaits::Class(name)) if behind => *name = Some(kept(word)),
            _ if level.declaring => {
                level.target = Some(kept(word));
                (level.fixed, level.declaring) = (true, false);
            }
            _ if in_class && (starts || after_modifier || last == Last::Sign(b'*')) => {
                level.target = Some(kept(word));
                level.fixed = true;
            }
            _ => {}
        }
        self.remember(word);
    }

    fn remember(&mut self, word: &str) {
        self.word.clear();
        self.word.push_str(&word[..word.floor_char_boundary(NAME_BYTES_MAX)]);
    }

    fn sign(&mut self, sign: u8, spot: Spot, changed: &mut impl FnMut(u32, Around<'_>)) {
        let named = match self.last {
            Last::Word | Last::Quoted if b"=<:".contains(&sign) => Some(kept(&self.word)),
            _ => None,
        };
        match sign {
            b';' => {
                self.end_expressions(spot.column, changed);
                self.end_statement();
            }
            b',' if self.top().angles == 0 => {
                self.end_expressions(spot.column, changed);
                let level = self.top();
                (level.target, level.fixed, level.questions, level.declaring) = (None, false, 0, level.declares);
                if matches!(level.awaits, Awaits::Method(_)) {
                    level.awaits = Awaits::Nothing;
                }
            }
            b'=' if !self.top().fixed => self.top().target = named,
            b'?' => self.top().questions += 1,
            b'<' => {
                let last = self.last;
                let level = self.top();
                level.generic = named;
                let declares = matches!(level.awaits, Awaits::Class(_) | Awaits::Function(..));
                level.angles += u32::from(declares || matches!(last, Last::Sign(b'=') | Last::Open));
            }
            b'>' => self.top().angles = self.top().angles.saturating_sub(1),
            b':' => {
                let level = self.top();
                if level.questions > 0 {
                    level.questions -= 1;
                    if matches!(level.awaits, Awaits::Method(_)) {
                        level.awaits = Awaits::Nothing;
                    }
                } else if !level.fixed && named.is_some() && level.bracket == b'{' {
                    level.target = named;
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, bracket: u8, spot: Spot, changed: &mut impl FnMut(u32, Around<'_>)) {
        let last = self.last;
        self.top().declaring = false;
        if bracket == b'(' {
            let word = matches!(last, Last::Word | Last::Quoted).then(|| kept(&self.word));
            let level = self.top();
            match &mut level.awaits {
                Awaits::Function(_, parameters) => *parameters = true,
                Awaits::Class(_) => {}
                awaits => {
                    *awaits = match (last, word) {
                        (Last::Word, Some(word)) if CONTROL.contains(&&*word) => Awaits::Nothing,
                        (Last::Word | Last::Quoted, word) => Awaits::Method(word),
                        (Last::Close(b']'), _) => Awaits::Method(None),
                        (Last::Sign(b'>'), _) if level.generic.is_some() => Awaits::Method(level.generic.take()),
                        _ => Awaits::Nothing,
                    }
                }
            }
            return self.push(bracket, None, spot.end_column, changed);
        }
        // A brace there begins a type, or a decorator's argument, and not the body.
        let in_type = matches!(last, Last::Sign(b':' | b'|' | b'&' | b'<' | b',')) || self.top().angles > 0;
        let mut scope = None;
        if bracket == b'{' && !in_type {
            scope = match std::mem::take(&mut self.top().awaits) {
                Awaits::Function(name, true) => Some(Scope::Function(name)),
                Awaits::Class(name) => Some(Scope::Class(name)),
                Awaits::Method(name) => Some(Scope::Function(name.map(|name| self.qualified(&name)))),
                _ => None,
            };
        }
        // `onClick={() => …}`: what is in the braces is called as the attribute.
        let target = if last == Last::Sign(b'=') && scope.is_none() { self.top().target.clone() } else { None };
        self.push(bracket, scope, spot.end_column, changed);
        self.top().target = target;
    }

    /// What an arrow function that comes now would be called.
    fn member_name(&self) -> Option<Box<str>> {
        let level = self.levels.last()?;
        level.target.as_deref().map(|name| self.qualified(name))
    }

    /// A member's name with that of its class; a constructor is called as the class.
    fn qualified(&self, name: &str) -> Box<str> {
        match self.levels.last().and_then(|level| level.scope.as_ref()) {
            Some(Scope::Class(Some(class))) if name == "constructor" => class.clone(),
            Some(Scope::Class(Some(class))) => format!("{class}.{name}").into(),
            _ => name.into(),
        }
    }

    fn close(&mut self, bracket: u8, spot: Spot, changed: &mut impl FnMut(u32, Around<'_>)) {
        let opening = |level: &Level| match bracket {
            b'}' => matches!(level.bracket, b'{' | b'$'),
            b')' => level.bracket == b'(',
            _ => level.bracket == b'[',
        };
        // A brace closes what is still open in it; no other bracket closes a brace, since texts of JSX have some.
        let passed = self.levels.iter().rev().take(UNCLOSED_MAX);
        let mut passed =
            passed.take_while(|level| bracket == b'}' || opening(level) || !matches!(level.bracket, b'{' | b'$'));
        let Some(depth) = passed.position(opening) else { return };
        for _ in 0..=depth {
            self.pop(spot.end_column, changed);
        }
    }

    /// Ends the bodies of arrow functions that have no braces.
    fn end_expressions(&mut self, column: u32, changed: &mut impl FnMut(u32, Around<'_>)) {
        while self.top().bracket == EXPRESSION {
            self.pop(column, changed);
        }
    }

    fn end_statement(&mut self) {
        self.top().restart();
    }

    fn push(&mut self, bracket: u8, scope: Option<Scope>, column: u32, changed: &mut impl FnMut(u32, Around<'_>)) {
        if self.levels.len() == LEVELS_MAX {
            self.forget(column, changed);
        }
        let Level { mut scoped, mut named, .. } = *self.top();
        if let Some(scope) = &scope {
            scoped = self.levels.len();
            named = if scope.name().is_some() { scoped } else { named };
        }
        let head = self.top().head;
        // What a bundler maps to the beginning of a function, as the calls in an arrow function often are, is in it.
        let column = match scope {
            Some(Scope::Function(_)) if head.0 == self.line && self.changed.0 == self.line => {
                head.1.max(self.changed.1)
            }
            Some(Scope::Function(_)) if head.0 == self.line => head.1,
            _ => column,
        };
        let changes = scope.is_some();
        self.levels.push(Level { bracket, scope, scoped, named, ..Level::default() });
        if changes {
            self.tell(column, changed);
        }
    }

    fn tell(&mut self, column: u32, changed: &mut impl FnMut(u32, Around<'_>)) {
        self.changed = (self.line, column);
        changed(column, self.around());
    }

    fn pop(&mut self, column: u32, changed: &mut impl FnMut(u32, Around<'_>)) {
        if self.levels.len() > 1 && self.levels.pop().is_some_and(|level| level.scope.is_some()) {
            self.tell(column, changed);
        }
    }

    fn top(&mut self) -> &mut Level {
        let top = self.levels.len() - 1;
        &mut self.levels[top]
    }
}

fn kept(word: &str) -> Box<str> {
    word[..word.floor_char_boundary(NAME_BYTES_MAX)].into()
}
