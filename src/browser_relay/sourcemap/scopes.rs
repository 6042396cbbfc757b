//! Scanner that finds the enclosing function of every position in a source.
//!
//! A frame should have the name that V8 would have shown before minification: `Cart.checkout` for a method, `load` for
//! `const load = async () =>`, none for a callback. The name in a mapping does not help, because it belongs to the
//! identifier at the position and not to the enclosing function. Other tools infer the function in other ways:
//!
//! - Node.js uses the mapping at the start of the enclosing function, which only an engine knows.
//! - `source-map-support` and the older processor of Sentry use the name at the position of the caller. That name is
//!   often wrong for callbacks, values and methods.
//! - Sentry now parses the scopes of the minified file, which is not uploaded to this service.
//!
//! Nearly every map contains the original source, in which functions have their names. The scanner reads it once, during
//! the upload, as far as words and brackets describe functions.

use super::js_lexer::{Lexer, Token, TokenColumns};
use super::open_bracket::{EXPRESSION, MODULE, NextBraceIs, OpenBracket, Scope, truncate_name};

/// Maximum open brackets that are tracked.
const OPEN_BRACKETS_MAX: usize = 1_000;
/// Maximum unclosed brackets that a closing bracket may skip to reach its opening bracket.
const UNCLOSED_BRACKETS_MAX: usize = 16;

/// The function that encloses a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnclosingFunction<'a> {
    /// No function: code at the top level of the module.
    Module,
    /// An anonymous function, with the name of the innermost named function around it.
    Anonymous(Option<&'a str>),
    Named(&'a str),
}

/// Scanner for one source, which it reads line by line.
pub(super) struct ScopeScanner {
    lexer: Lexer,
    /// Open brackets, outermost first. The first one is the module.
    open: Vec<OpenBracket>,
    previous: PrevToken,
    /// The last word or string, truncated.
    word: String,
    /// Number of lines so far.
    line: u32,
    /// Line and column of the last change of the enclosing function.
    last_change: (u32, u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PrevToken {
    Word,
    Quoted,
    Value,
    Open,
    Close(u8),
    Operator(u8),
}

/// Keywords before parentheses or a block that are not methods.
const CONTROL_KEYWORDS: [&str; 16] = [
    "if", "for", "while", "switch", "catch", "with", "return", "typeof", "await", "yield", "throw", "new", "else",
    "do", "async", "function",
];
/// Keywords after which a statement continues on the next line.
const UNFINISHED_KEYWORDS: [&str; 18] = [
    "const", "let", "var", "export", "default", "import", "from", "extends", "else", "function", "class", "async",
    "static", "typeof", "new", "case", "return", "throw",
];
/// Keywords that continue the statement of the previous line.
const CONTINUING_KEYWORDS: [&str; 7] = ["instanceof", "in", "of", "as", "satisfies", "extends", "implements"];
/// Keywords before the name of a class member.
const MODIFIERS: [&str; 10] =
    ["static", "async", "get", "set", "public", "private", "protected", "readonly", "override", "accessor"];

impl ScopeScanner {
    pub(super) fn new() -> Self {
        Self {
            lexer: Lexer::default(),
            open: vec![OpenBracket { bracket: MODULE, ..OpenBracket::default() }],
            previous: PrevToken::Operator(b';'),
            word: String::new(),
            line: 0,
            last_change: (0, 0),
        }
    }

    /// Scans a line, or a part of one that starts at column `start`. Calls `changed` with each column from which the
    /// enclosing function is another. Columns start at 0 and count UTF-16 code units.
    pub(super) fn scan(&mut self, part: &str, start: u32, mut changed: impl FnMut(u32, EnclosingFunction<'_>)) {
        let mut lexer = std::mem::take(&mut self.lexer);
        self.line += u32::from(start == 0);
        if start == 0 && lexer.is_top_level(part) {
            lexer.reset();
            self.close_all(0, &mut changed);
        }
        lexer.read(part, start, |token, span| self.process(token, span, &mut changed));
        self.lexer = lexer;
    }

    fn close_all(&mut self, column: u32, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        let was_in_function = self.enclosing_function() != EnclosingFunction::Module;
        self.open.truncate(1);
        self.end_statement();
        self.previous = PrevToken::Operator(b';');
        if was_in_function {
            self.report_change(column, changed);
        }
    }

    fn enclosing_function(&self) -> EnclosingFunction<'_> {
        let name = |index: usize| self.open[index].scope.as_ref().and_then(Scope::name);
        let OpenBracket { scoped, named, .. } = self.open[self.open.len() - 1];
        match name(scoped) {
            _ if scoped == 0 => EnclosingFunction::Module,
            Some(name) => EnclosingFunction::Named(name),
            None => EnclosingFunction::Anonymous(name(named)),
        }
    }

    fn process(&mut self, token: Token<'_>, span: TokenColumns, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        if let NextBraceIs::ArrowBody(name) = &mut self.top().next_brace {
            let scope = Some(Scope::Function(name.take()));
            self.top().next_brace = NextBraceIs::NoBody;
            if token == Token::Open(b'{') {
                self.push(b'{', scope, span.column, changed);
                self.previous = PrevToken::Open;
                return;
            }
            self.push(EXPRESSION, scope, span.column, changed);
        }
        let starts_statement = self.starts_statement(token, span);
        if starts_statement && span.is_first_in_line {
            self.end_expressions(span.column, changed);
            if !matches!(self.top().bracket, b'(' | b'[') {
                self.end_statement();
            }
        }
        if starts_statement || self.starts_expression() {
            self.top().expression_start = (self.line, span.column);
        }
        self.previous = match token {
            Token::Word(word) => {
                self.process_word(word, starts_statement);
                PrevToken::Word
            }
            Token::Quoted(string) => {
                self.set_word(string);
                PrevToken::Quoted
            }
            Token::Value => PrevToken::Value,
            Token::Open(bracket) => {
                self.process_open(bracket, span, changed);
                PrevToken::Open
            }
            Token::Close(bracket) => {
                self.process_close(bracket, span, changed);
                PrevToken::Close(bracket)
            }
            Token::Arrow => {
                // After the parameters of a function or a method, an arrow belongs to a type.
                let is_type = matches!(
                    self.top().next_brace,
                    NextBraceIs::Function { has_parameters: true, .. } | NextBraceIs::MethodBody(_)
                );
                if !is_type {
                    self.top().next_brace = NextBraceIs::ArrowBody(self.arrow_function_name());
                }
                PrevToken::Operator(b'>')
            }
            Token::Operator(operator) => {
                self.process_operator(operator, span, changed);
                PrevToken::Operator(operator)
            }
        };
    }

    /// Whether a token starts a statement or a class member.
    fn starts_statement(&mut self, token: Token<'_>, span: TokenColumns) -> bool {
        let can_start = match token {
            Token::Word(word) => !CONTINUING_KEYWORDS.contains(&word),
            Token::Operator(operator) => operator == b'@',
            _ => false,
        };
        can_start
            && match self.previous {
                PrevToken::Operator(b';') | PrevToken::Open => true,
                PrevToken::Close(b'}') => span.is_first_in_line || self.top().bracket != b'(',
                PrevToken::Word => span.is_first_in_line && !UNFINISHED_KEYWORDS.contains(&self.word.as_str()),
                PrevToken::Quoted | PrevToken::Value | PrevToken::Close(_) => span.is_first_in_line,
                PrevToken::Operator(_) => false,
            }
    }

    /// Whether the next token starts an expression. The value of a class member belongs to the expression that the member
    /// starts.
    fn starts_expression(&mut self) -> bool {
        let top = self.top();
        let is_member = top.is_target_fixed && top.is_class();
        match self.previous {
            PrevToken::Operator(_) => !is_member,
            PrevToken::Open => true,
            PrevToken::Word => {
                UNFINISHED_KEYWORDS.contains(&&*self.word) && !matches!(&*self.word, "async" | "function" | "static")
            }
            _ => false,
        }
    }

    fn process_word(&mut self, word: &str, starts_statement: bool) {
        let previous = self.previous;
        let follows_modifier = previous == PrevToken::Word && MODIFIERS.contains(&self.word.as_str());
        let follows_keyword = previous == PrevToken::Word && matches!(self.word.as_str(), "function" | "class");
        let follows_export = previous == PrevToken::Word && self.word == "export";
        let follows_star = previous == PrevToken::Operator(b'*');
        let top = self.top();
        let is_in_class = top.is_class();
        match (word, &mut top.next_brace) {
            _ if previous == PrevToken::Operator(b'.') => {}
            ("function", _) => {
                top.next_brace = NextBraceIs::Function { name: top.target.clone(), has_parameters: false };
            }
            ("class", _) => top.next_brace = NextBraceIs::ClassBody(top.target.clone()),
            ("const" | "let" | "var", _) => {
                top.restart();
                (top.is_declaration, top.expects_declared_name) = (true, true);
            }
            ("default", _) if follows_export => top.target = Some("default".into()),
            (_, NextBraceIs::Function { name, has_parameters: false }) if follows_keyword || follows_star => {
                *name = Some(truncate_name(word).into());
            }
            ("extends" | "implements", NextBraceIs::ClassBody(_)) => {}
            (_, NextBraceIs::ClassBody(name)) if follows_keyword => *name = Some(truncate_name(word).into()),
            _ if top.expects_declared_name => {
                top.target = Some(truncate_name(word).into());
                (top.is_target_fixed, top.expects_declared_name) = (true, false);
            }
            _ if is_in_class && (starts_statement || follows_modifier || follows_star) => {
                top.target = Some(truncate_name(word).into());
                top.is_target_fixed = true;
            }
            _ => {}
        }
        self.set_word(word);
    }

    fn set_word(&mut self, word: &str) {
        self.word.clear();
        self.word.push_str(truncate_name(word));
    }

    fn process_operator(
        &mut self,
        operator: u8,
        span: TokenColumns,
        changed: &mut impl FnMut(u32, EnclosingFunction<'_>),
    ) {
        let target: Option<Box<str>> = match self.previous {
            PrevToken::Word | PrevToken::Quoted if b"=<:".contains(&operator) => Some(self.word.as_str().into()),
            _ => None,
        };
        match operator {
            b';' => {
                self.end_expressions(span.column, changed);
                self.end_statement();
            }
            b',' if self.top().open_angles == 0 => {
                self.end_expressions(span.column, changed);
                let top = self.top();
                (top.target, top.is_target_fixed, top.open_conditionals) = (None, false, 0);
                top.expects_declared_name = top.is_declaration;
                if matches!(top.next_brace, NextBraceIs::MethodBody(_)) {
                    top.next_brace = NextBraceIs::NoBody;
                }
            }
            b'=' if !self.top().is_target_fixed => self.top().target = target,
            b'?' => self.top().open_conditionals += 1,
            b'<' => {
                let previous = self.previous;
                let top = self.top();
                top.generic_name = target;
                let is_declared = matches!(top.next_brace, NextBraceIs::ClassBody(_) | NextBraceIs::Function { .. });
                let is_generic = is_declared || matches!(previous, PrevToken::Operator(b'=') | PrevToken::Open);
                top.open_angles += u32::from(is_generic);
            }
            b'>' => self.top().open_angles = self.top().open_angles.saturating_sub(1),
            b':' => {
                let top = self.top();
                if top.open_conditionals > 0 {
                    top.open_conditionals -= 1;
                    if matches!(top.next_brace, NextBraceIs::MethodBody(_)) {
                        top.next_brace = NextBraceIs::NoBody;
                    }
                } else if !top.is_target_fixed && target.is_some() && top.bracket == b'{' {
                    top.target = target;
                }
            }
            _ => {}
        }
    }

    fn process_open(&mut self, bracket: u8, span: TokenColumns, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        let previous = self.previous;
        self.top().expects_declared_name = false;
        if bracket == b'(' {
            self.expect_method_body();
            return self.push(bracket, None, span.end_column, changed);
        }
        // Here a brace starts a type or the argument of a decorator, not a body.
        let is_in_type =
            matches!(previous, PrevToken::Operator(b':' | b'|' | b'&' | b'<' | b',')) || self.top().open_angles > 0;
        let mut scope = None;
        if bracket == b'{' && !is_in_type {
            scope = match std::mem::take(&mut self.top().next_brace) {
                NextBraceIs::Function { name, has_parameters: true } => Some(Scope::Function(name)),
                NextBraceIs::ClassBody(name) => Some(Scope::Class(name)),
                NextBraceIs::MethodBody(name) => Some(Scope::Function(name.map(|name| self.top().qualify(&name)))),
                _ => None,
            };
        }
        // In `onClick={() => …}`, a function inside the braces gets the name of the attribute.
        let is_attribute = previous == PrevToken::Operator(b'=') && scope.is_none();
        let target = if is_attribute { self.top().target.clone() } else { None };
        self.push(bracket, scope, span.end_column, changed);
        self.top().target = target;
    }

    /// Records at an opening parenthesis that the body of a function or method may follow.
    fn expect_method_body(&mut self) {
        let previous = self.previous;
        let word = matches!(previous, PrevToken::Word | PrevToken::Quoted).then(|| Box::from(self.word.as_str()));
        let top = self.top();
        match &mut top.next_brace {
            NextBraceIs::Function { has_parameters, .. } => *has_parameters = true,
            NextBraceIs::ClassBody(_) => {}
            next_brace => {
                *next_brace = match (previous, word) {
                    (PrevToken::Word, Some(word)) if CONTROL_KEYWORDS.contains(&&*word) => NextBraceIs::NoBody,
                    (PrevToken::Word | PrevToken::Quoted, word) => NextBraceIs::MethodBody(word),
                    (PrevToken::Close(b']'), _) => NextBraceIs::MethodBody(None),
                    (PrevToken::Operator(b'>'), _) if top.generic_name.is_some() => {
                        NextBraceIs::MethodBody(top.generic_name.take())
                    }
                    _ => NextBraceIs::NoBody,
                }
            }
        }
    }

    /// Returns the name that an arrow function at this position gets.
    fn arrow_function_name(&mut self) -> Option<Box<str>> {
        let top = self.top();
        top.target.as_deref().map(|name| top.qualify(name))
    }

    fn process_close(&mut self, bracket: u8, span: TokenColumns, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        let is_match = |open: &OpenBracket| match bracket {
            b'}' => matches!(open.bracket, b'{' | b'$'),
            b')' => open.bracket == b'(',
            _ => open.bracket == b'[',
        };
        // A brace closes everything that is open inside it. Other brackets never close a brace, because text of JSX can
        // contain them.
        let innermost = self.open.iter().rev().take(UNCLOSED_BRACKETS_MAX);
        let mut closable =
            innermost.take_while(|open| bracket == b'}' || is_match(open) || !matches!(open.bracket, b'{' | b'$'));
        let Some(unclosed) = closable.position(is_match) else { return };
        for _ in 0..=unclosed {
            self.pop(span.end_column, changed);
        }
    }

    /// Closes the bodies of arrow functions without braces.
    fn end_expressions(&mut self, column: u32, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        while self.top().bracket == EXPRESSION {
            self.pop(column, changed);
        }
    }

    fn end_statement(&mut self) {
        self.top().restart();
    }

    fn push(
        &mut self,
        bracket: u8,
        scope: Option<Scope>,
        column: u32,
        changed: &mut impl FnMut(u32, EnclosingFunction<'_>),
    ) {
        if self.open.len() == OPEN_BRACKETS_MAX {
            self.close_all(column, changed);
        }
        let OpenBracket { mut scoped, mut named, expression_start, .. } = *self.top();
        if let Some(scope) = &scope {
            scoped = self.open.len();
            named = if scope.name().is_some() { scoped } else { named };
        }
        // A function encloses its expression from the start, because bundlers map calls inside an arrow function to the
        // start of the function.
        let column = match scope {
            Some(Scope::Function(_)) if expression_start.0 == self.line && self.last_change.0 == self.line => {
                expression_start.1.max(self.last_change.1)
            }
            Some(Scope::Function(_)) if expression_start.0 == self.line => expression_start.1,
            _ => column,
        };
        let has_scope = scope.is_some();
        self.open.push(OpenBracket { bracket, scope, scoped, named, ..OpenBracket::default() });
        if has_scope {
            self.report_change(column, changed);
        }
    }

    fn report_change(&mut self, column: u32, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        self.last_change = (self.line, column);
        changed(column, self.enclosing_function());
    }

    fn pop(&mut self, column: u32, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        if self.open.len() > 1 && self.open.pop().is_some_and(|closed| closed.scope.is_some()) {
            self.report_change(column, changed);
        }
    }

    fn top(&mut self) -> &mut OpenBracket {
        let top = self.open.len() - 1;
        &mut self.open[top]
    }
}
