//! The texts in the sources of the product: the code of tests is left out.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, Lit, LitStr, Meta, Pat, Stmt, Token};
use wal_e_e2e::installation::repository;

/// What a text is for, and so which rules it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Message,
    Notice,
    Row,
    Detail,
    Hint,
    Help,
    /// Parts of the others, and what the program prints: only its words are looked at.
    Text,
}

/// A text, and where it stands in the sources.
pub struct Text {
    pub kind: Kind,
    pub file: String,
    pub line: usize,
    pub text: String,
}

/// Which of its arguments a function or a method takes as which text.
fn texts_of_call(path: &str) -> &'static [(usize, Kind)] {
    match path {
        "Error::new" | "Failure::new" | "Refusal::new" | "Error::from_tar" => &[(1, Kind::Message)],
        "Error::io" | "Error::from_io" => &[(0, Kind::Message)],
        "Check::passed" | "Check::not_checked" => &[(1, Kind::Row)],
        "Check::failed" => &[(1, Kind::Row), (2, Kind::Hint)],
        "Verdict::hinted" => &[(1, Kind::Hint)],
        "Check::of_error" => &[(2, Kind::Hint)],
        "server_log::log" => &[(0, Kind::Notice), (1, Kind::Detail)],
        _ => &[],
    }
}

fn texts_of_method(name: &str) -> &'static [(usize, Kind)] {
    match name {
        "with_detail" | "set_detail" => &[(0, Kind::Detail)],
        "with_hint" | "set_hint" | "with_advice" | "hint" => &[(0, Kind::Hint)],
        "warning" | "log" | "debug" => &[(0, Kind::Notice)],
        "send" => &[(1, Kind::Notice), (2, Kind::Hint)],
        "passed" | "noted" | "not_checked" => &[(1, Kind::Row)],
        "failed" => &[(2, Kind::Row)],
        _ => &[],
    }
}

/// What a field, a variable or a function of this name holds.
fn kind_of_name(owner: &str, name: &str) -> Option<Kind> {
    let name = name.to_lowercase();
    let has = |word: &str| name.split('_').any(|part| part == word);
    match name.as_str() {
        "purpose" | "note" | "remarks" | "form" if owner == "Description" || owner == "Flag" => {
            Some(Kind::Help)
        }
        "detail" if ["Ability", "Check", "Finding"].contains(&owner) => Some(Kind::Row),
        _ if has("hint") || has("advice") => Some(Kind::Hint),
        _ if has("detail") => Some(Kind::Detail),
        _ if has("message") || name == "reason" => Some(Kind::Message),
        _ => None,
    }
}

/// Reads a file of the sources, and with it the modules that it declares.
struct Reader<'a> {
    file: String,
    modules: Vec<String>,
    texts: &'a mut Vec<Text>,
}

impl Reader<'_> {
    fn add(&mut self, kind: Kind, text: &str, span: Span) {
        let words = text
            .split_whitespace()
            .filter(|word| word.chars().all(|c| c.is_alphabetic() || ".,:;'".contains(c)));
        let is_read = kind != Kind::Text && text.contains(char::is_alphabetic);
        let is_prose = words.count() >= 2 || is_read && text.contains(' ');
        if is_prose {
            let (file, line) = (self.file.clone(), span.start().line);
            self.texts.push(Text { kind, file, line, text: text.to_owned() });
        }
    }

    /// What `expression` evaluates to is a text of this kind.
    fn read(&mut self, kind: Kind, expression: &Expr) {
        match expression {
            Expr::Lit(literal) => {
                if let Lit::Str(text) = &literal.lit {
                    self.add(kind, &text.value(), text.span());
                }
            }
            Expr::Macro(call) => self.read_macro(kind, &call.mac),
            Expr::Reference(inner) => self.read(kind, &inner.expr),
            Expr::Paren(inner) => self.read(kind, &inner.expr),
            Expr::Try(inner) => self.read(kind, &inner.expr),
            Expr::Closure(closure) => self.read(kind, &closure.body),
            Expr::Array(array) => array.elems.iter().for_each(|element| self.read(kind, element)),
            Expr::Block(block) => self.read_block(kind, &block.block),
            Expr::If(choice) => {
                self.visit_expr(&choice.cond);
                self.read_block(kind, &choice.then_branch);
                if let Some((_, otherwise)) = &choice.else_branch {
                    self.read(kind, otherwise);
                }
            }
            Expr::Match(choice) => {
                self.visit_expr(&choice.expr);
                choice.arms.iter().for_each(|arm| self.read(kind, &arm.body));
            }
            Expr::Binary(sum) => {
                self.read(kind, &sum.left);
                self.visit_expr(&sum.right);
            }
            Expr::MethodCall(call) if texts_of_method(&call.method.to_string()).is_empty() => {
                self.read(kind, &call.receiver);
                call.args.iter().for_each(|argument| self.read(kind, argument));
            }
            Expr::Call(call)
                if matches!(end_of_path(&call.func).as_str(), "Some" | "Ok" | "String::from") =>
            {
                call.args.iter().for_each(|argument| self.read(kind, argument));
            }
            other => self.visit_expr(other),
        }
    }

    fn read_block(&mut self, kind: Kind, block: &Block) {
        let (last, others) = match block.stmts.split_last() {
            Some((Stmt::Expr(last, None), others)) => (Some(last), others),
            _ => (None, block.stmts.as_slice()),
        };
        others.iter().for_each(|statement| self.visit_stmt(statement));
        if let Some(last) = last {
            self.read(kind, last);
        }
    }

    /// The first argument of `format!` and its like has the kind; the others are parts.
    fn read_macro(&mut self, kind: Kind, call: &syn::Macro) {
        let name = call.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        let is_seen = !name.starts_with("assert")
            && !name.starts_with("debug_assert")
            && !matches!(name.as_str(), "panic" | "unreachable" | "matches");
        let arguments = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(call.tokens.clone());
        match arguments {
            _ if !is_seen => {}
            Ok(arguments) if name.starts_with("format") => {
                let mut kind = Some(kind);
                for argument in &arguments {
                    self.read(kind.take().unwrap_or(Kind::Text), argument);
                }
            }
            Ok(arguments) => arguments.iter().for_each(|argument| self.visit_expr(argument)),
            Err(_) => self.read_tokens(call.tokens.clone()),
        }
    }

    /// Each string of a macro with a grammar of its own.
    fn read_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) if is_doc(&group.stream()) => {}
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse2::<LitStr>(TokenTree::from(literal).into()) {
                        self.add(Kind::Text, &text.value(), text.span());
                    }
                }
                _ => {}
            }
        }
    }

    /// The comments of the command line are its help.
    fn read_help(&mut self, attributes: &[Attribute]) {
        if !self.file.contains("wal-e-cli/src/cli") {
            return;
        }
        let mut help = String::new();
        for attribute in attributes {
            if let Meta::NameValue(doc) = &attribute.meta
                && let Expr::Lit(line) = &doc.value
                && let Lit::Str(line) = &line.lit
            {
                help.push_str(&line.value());
            }
        }
        if let Some(first) = attributes.first() {
            self.add(Kind::Help, help.trim(), first.span());
        }
    }

    fn read_arguments<'e>(
        &mut self,
        texts: &[(usize, Kind)],
        arguments: impl Iterator<Item = &'e Expr>,
    ) {
        for (place, argument) in arguments.enumerate() {
            match texts.iter().find(|text| text.0 == place) {
                Some((_, kind)) => self.read(*kind, argument),
                None => self.visit_expr(argument),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_expr_lit(&mut self, literal: &'ast syn::ExprLit) {
        self.read(Kind::Text, &Expr::Lit(literal.clone()));
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.read_macro(Kind::Text, call);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        self.visit_expr(&call.func);
        self.read_arguments(texts_of_call(&end_of_path(&call.func)), call.args.iter());
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.visit_expr(&call.receiver);
        if call.method == "expect" {
            return;
        }
        self.read_arguments(texts_of_method(&call.method.to_string()), call.args.iter());
    }

    fn visit_expr_struct(&mut self, value: &'ast syn::ExprStruct) {
        let owner = value.path.segments.last().map(|last| last.ident.to_string());
        for field in &value.fields {
            let name = match &field.member {
                syn::Member::Named(name) => name.to_string(),
                syn::Member::Unnamed(_) => String::new(),
            };
            let kind = kind_of_name(owner.as_deref().unwrap_or_default(), &name);
            self.read(kind.unwrap_or(Kind::Text), &field.expr);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let kind = match &local.pat {
            Pat::Ident(variable) => kind_of_name("", &variable.ident.to_string()),
            _ => None,
        };
        if let Some(init) = &local.init {
            self.read(kind.unwrap_or(Kind::Text), &init.expr);
            if let Some((_, otherwise)) = &init.diverge {
                self.visit_expr(otherwise);
            }
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        if !is_for_tests(&item.attrs) {
            let kind = kind_of_name("", &item.ident.to_string());
            self.read(kind.unwrap_or(Kind::Text), &item.expr);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            let kind = kind_of_name("", &item.sig.ident.to_string());
            self.read_block(kind.unwrap_or(Kind::Text), &item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            let kind = kind_of_name("", &item.sig.ident.to_string());
            self.read_block(kind.unwrap_or(Kind::Text), &item.block);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        match item.content {
            Some(_) => visit::visit_item_mod(self, item),
            None => self.modules.push(item.ident.to_string()),
        }
    }

    /// What a pattern is compared with is not said.
    fn visit_pat(&mut self, _: &'ast Pat) {}

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.read_help(&item.attrs);
        visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.read_help(&variant.attrs);
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.read_help(&field.attrs);
        visit::visit_field(self, field);
    }

    /// Other attributes and comments say nothing to users.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) if list.path.is_ident("arg") || list.path.is_ident("command") => {
                self.read_tokens(list.tokens.clone());
            }
            _ => {}
        }
    }
}

fn is_doc(tokens: &TokenStream) -> bool {
    matches!(tokens.clone().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

/// `Error::new` of `crate::error::Error::new`.
fn end_of_path(function: &Expr) -> String {
    let Expr::Path(path) = function else { return String::new() };
    let names: Vec<String> =
        path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    names[names.len().saturating_sub(2)..].join("::")
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.to_string().split(|c: char| !c.is_alphabetic()).any(|word| word == "test")
        }
        _ => false,
    })
}

/// The texts of `path` and of the modules below it.
pub fn read_file(path: &Path, texts: &mut Vec<Text>) {
    let source = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
    let name = path.strip_prefix(repository()).unwrap_or(path).display().to_string();
    let modules = read_source(name, &source, texts);
    let stem = path.file_stem().unwrap_or_default();
    let directory = match stem.to_str() {
        Some("lib" | "main" | "mod") => path.with_file_name(""),
        _ => path.with_file_name(stem),
    };
    for module in modules {
        let candidates =
            [directory.join(format!("{module}.rs")), directory.join(&module).join("mod.rs")];
        let file: Option<&PathBuf> = candidates.iter().find(|path| path.exists());
        let missing = || panic!("{}: module {module} has no file", path.display());
        read_file(file.unwrap_or_else(missing), texts);
    }
}

/// The texts of one file; returns the modules that it declares.
pub fn read_source(file: String, source: &str, texts: &mut Vec<Text>) -> Vec<String> {
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut reader = Reader { file, modules: Vec::new(), texts };
    reader.visit_file(&parsed);
    reader.modules
}
