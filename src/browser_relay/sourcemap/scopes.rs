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
//! the upload, as far as words and brackets describe functions. `scope_oracle_tests.rs` compares it with a parser
//! over real code: they agree on 99.8 % of the positions in JavaScript and 99.7 % in TypeScript.

use super::js_keywords::{CONTINUING_KEYWORDS, CONTROL_KEYWORDS, MODIFIERS, UNFINISHED_KEYWORDS};
use super::js_lexer::{Lexer, Token, TokenColumns};
use super::open_bracket::{
    EXPRESSION, MODULE, NextBraceIs, OpenBracket, Scope, TypePart, mark_unindented_function, truncate_name,
};

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
    /// The token before `previous`.
    before_previous: PrevToken,
    /// The last word or string, truncated.
    word: String,
    /// Number of lines so far.
    line: u32,
    /// Line of the last token.
    last_token_line: u32,
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

impl ScopeScanner {
    pub(super) fn new() -> Self {
        Self {
            lexer: Lexer::default(),
            open: vec![OpenBracket { bracket: MODULE, ..OpenBracket::default() }],
            previous: PrevToken::Operator(b';'),
            before_previous: PrevToken::Operator(b';'),
            word: String::new(),
            line: 0,
            last_token_line: 0,
            last_change: (0, 0),
        }
    }

    /// Scans a line, or a part of one that starts at column `start`. Calls `changed` with each column from which the
    /// enclosing function is another. Columns start at 0 and count UTF-16 code units.
    pub(super) fn scan(&mut self, part: &str, start: u32, mut changed: impl FnMut(u32, EnclosingFunction<'_>)) {
        let mut lexer = std::mem::take(&mut self.lexer);
        self.line += u32::from(start == 0);
        if start == 0 && lexer.is_top_level(part) {
            mark_unindented_function(&mut self.open, self.last_token_line);
            if !self.top().is_in_unindented_function() {
                lexer.reset();
                let level = self.top().top_level;
                self.close_all(level, 0, &mut changed);
            }
        }
        lexer.read(part, start, |token, span| self.process(token, span, &mut changed));
        self.lexer = lexer;
    }

    /// Closes all brackets inside the bracket with index `level`.
    fn close_all(&mut self, level: usize, column: u32, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        let closes_scope = self.top().scoped > level;
        self.open.truncate(level + 1);
        self.top().restart();
        self.previous = PrevToken::Operator(b';');
        if closes_scope {
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
            if !matches!(self.top().bracket, b'(' | b'[') && !self.top().is_attribute {
                self.top().restart();
            }
        }
        if starts_statement || self.starts_expression() {
            self.top().expression_start = (self.line, span.column);
        }
        if span.is_first_in_line && span.column == 0 && !matches!(token, Token::Close(_)) {
            mark_unindented_function(&mut self.open, self.last_token_line);
        }
        self.last_token_line = self.line;
        let before_previous = std::mem::replace(&mut self.before_previous, self.previous);
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
                // `a["name"]` is `a.name`.
                match (before_previous, self.previous, bracket) {
                    (PrevToken::Open, PrevToken::Quoted, b']') => PrevToken::Quoted,
                    _ => PrevToken::Close(bracket),
                }
            }
            Token::Arrow => {
                self.top().expect_arrow_body();
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
            && self.top().open_angles == 0
            && match self.previous {
                PrevToken::Operator(b';') | PrevToken::Open => true,
                PrevToken::Close(b'}') => span.is_first_in_line || self.top().bracket != b'(',
                PrevToken::Word => span.is_first_in_line && !UNFINISHED_KEYWORDS.contains(&self.word.as_str()),
                PrevToken::Quoted | PrevToken::Value | PrevToken::Close(_) => span.is_first_in_line,
                PrevToken::Operator(b'>') => span.is_first_in_line && self.top().type_part != TypePart::NoType,
                PrevToken::Operator(_) => false,
            }
    }

    /// Whether the next token starts an expression. The value of a class member belongs to the expression that the member
    /// starts.
    fn starts_expression(&mut self) -> bool {
        let top = self.top();
        let continues_member = top.is_target_fixed && top.is_class() || top.is_in_type();
        match self.previous {
            PrevToken::Operator(_) => !continues_member,
            PrevToken::Open => true,
            PrevToken::Word => {
                UNFINISHED_KEYWORDS.contains(&&*self.word) && !matches!(&*self.word, "async" | "function" | "static")
            }
            _ => false,
        }
    }

    /// Whether `<` at this position starts type parameters or a JSX tag, because it cannot be an operator.
    fn starts_operand(&self) -> bool {
        match self.previous {
            PrevToken::Open | PrevToken::Close(b'}') => true,
            PrevToken::Operator(operator) => b"=?:&|>,".contains(&operator),
            PrevToken::Word => matches!(&*self.word, "return" | "default"),
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
        let (is_in_class, is_in_type) = (top.is_class(), top.is_in_type());
        match (word, &mut top.next_brace) {
            _ if previous == PrevToken::Operator(b'.') || is_in_type => {}
            ("case", _) if starts_statement => top.open_conditionals += 1,
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
        match operator {
            b';' => {
                self.end_expressions(span.column, changed);
                self.top().restart();
            }
            b',' if self.top().open_angles == 0 => {
                self.end_expressions(span.column, changed);
                self.top().end_item();
            }
            b'=' => {
                let is_attribute = self.previous == PrevToken::Word && self.word == "class";
                let (top, name) = self.top_and_name();
                top.assign(name, is_attribute);
            }
            b'?' => self.top().open_conditionals += 1,
            b'<' => {
                let starts_operand = self.starts_operand();
                let (top, name) = self.top_and_name();
                top.open_angle(starts_operand, name);
            }
            b'>' => self.top().open_angles = self.top().open_angles.saturating_sub(1),
            b':' => self.process_colon(span, changed),
            _ => {}
        }
    }

    fn process_colon(&mut self, span: TokenColumns, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        // In `a ? (b) => c : d`, the colon ends the body of the arrow function.
        let mut innermost = self.open.iter().rev().take(UNCLOSED_BRACKETS_MAX);
        let outer = innermost.position(|open| open.bracket != EXPRESSION || open.open_conditionals > 0);
        let outer = outer.filter(|outer| self.open[self.open.len() - 1 - outer].open_conditionals > 0);
        for _ in 0..outer.unwrap_or_default() {
            self.pop(span.column, changed);
        }
        let is_optional = self.previous == PrevToken::Operator(b'?');
        let follows_parameters = self.previous == PrevToken::Close(b')');
        let (top, name) = self.top_and_name();
        top.process_colon(name, is_optional, follows_parameters);
    }

    fn process_open(&mut self, bracket: u8, span: TokenColumns, changed: &mut impl FnMut(u32, EnclosingFunction<'_>)) {
        let previous = self.previous;
        self.top().expects_declared_name = false;
        if bracket == b'(' {
            self.expect_method_body();
            return self.push(bracket, None, span.end_column, changed);
        }
        // Here a brace starts a type or the argument of a decorator, not a body.
        let is_in_type = matches!(previous, PrevToken::Operator(b':' | b'|' | b'&' | b'<' | b','))
            || self.top().open_angles > 0
            || self.top().type_part == TypePart::Annotation;
        let is_body = bracket == b'{' && !is_in_type;
        let scope = if is_body { self.top().take_body(previous == PrevToken::Close(b')')) } else { None };
        // In `onClick={() => …}`, a function inside the braces gets the name of the attribute.
        let follows_equals = previous == PrevToken::Operator(b'=') && scope.is_none();
        let is_attribute = follows_equals && self.top().open_angles > 0;
        let target = match follows_equals {
            true if is_attribute => Some(self.word.as_str().into()),
            true => self.top().target.clone(),
            false => None,
        };
        self.push(bracket, scope, span.end_column, changed);
        let top = self.top();
        (top.target, top.is_attribute) = (target, is_attribute);
    }

    /// Records at an opening parenthesis that the body of a function or method may follow.
    fn expect_method_body(&mut self) {
        let previous = self.previous;
        let word = matches!(previous, PrevToken::Word | PrevToken::Quoted).then(|| Box::from(self.word.as_str()));
        let top = self.top();
        // A method can have the name of a keyword: `catch(handler) {`.
        let is_member = top.is_class() && top.target == word;
        match &mut top.next_brace {
            NextBraceIs::Function { has_parameters, .. } => *has_parameters = true,
            NextBraceIs::ClassBody(_) => {}
            next_brace => {
                *next_brace = match (previous, word) {
                    (PrevToken::Word, Some(word)) if !is_member && CONTROL_KEYWORDS.contains(&&*word) => {
                        NextBraceIs::NoBody
                    }
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

    fn push(
        &mut self,
        bracket: u8,
        scope: Option<Scope>,
        column: u32,
        changed: &mut impl FnMut(u32, EnclosingFunction<'_>),
    ) {
        if self.open.len() == OPEN_BRACKETS_MAX {
            self.close_all(0, column, changed);
        }
        let OpenBracket { mut scoped, mut named, expression_start, top_level, .. } = *self.top();
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
        self.open.push(OpenBracket {
            bracket,
            scope,
            scoped,
            named,
            top_level,
            opened_line: self.line,
            ..OpenBracket::default()
        });
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

    /// Returns the innermost bracket, and the previous token if that is a word or a string.
    fn top_and_name(&mut self) -> (&mut OpenBracket, Option<&str>) {
        let name = matches!(self.previous, PrevToken::Word | PrevToken::Quoted).then_some(self.word.as_str());
        let top = self.open.len() - 1;
        (&mut self.open[top], name)
    }

    fn top(&mut self) -> &mut OpenBracket {
        let top = self.open.len() - 1;
        &mut self.open[top]
    }
}
