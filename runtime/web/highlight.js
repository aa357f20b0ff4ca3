/**
 * Distinguishes comments, strings, numbers and keywords in code, by rules that are shared by families of languages.
 * Code in other languages, and very long code, stays plain. No DOM: `tree.js` makes elements from the parts.
 */

/** The most characters of code that are highlighted. */
export const MAX_CODE = 20_000;

/** @typedef {"comment"|"string"|"number"|"keyword"|null} Kind */

const DOUBLE = String.raw`"(?:\\.|[^"\\\n])*"?`;
const SINGLE = String.raw`'(?:\\.|[^'\\\n])*'?`;
const BACK = "`(?:\\\\[^]|[^`\\\\])*`?";
/** A character literal, for languages in which `'a` alone has another meaning. */
const CHARACTER = String.raw`'(?:\\.[^'\n]*|[^'\\\n])'`;
const TRIPLE = String.raw`"""[^]*?(?:"""|$(?![^]))|'''[^]*?(?:'''|$(?![^]))`;
const BLOCK = String.raw`\/\*[^]*?(?:\*\/|$(?![^]))`;
const SLASHES = String.raw`\/\/[^\n]*`;
/** White space before it distinguishes it from a sharp inside a word. */
const SHARP = String.raw`(?:^|\s)#[^\n]*`;
const DASHES = String.raw`--[^\n]*`;

const NUMBER = String.raw`\b(?:0[xX][\da-fA-F_]+|0[bo][\d_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)[a-zA-Z]?\w*`;
const WORD = String.raw`[A-Za-z_$][\w$]*`;

const words = (text) => new Set(text.split(" "));

const C_LIKE = words(
  "abstract as async await bool boolean break case catch char class const continue default defer delete do double else enum export " +
  "extends extern false final finally float fn for foreach from func function go if impl implements import in instanceof int " +
  "interface internal is let long loop match mod move mut namespace new nil null of operator override package private protected pub " +
  "public readonly ref return self short sizeof static struct super switch template this throw throws trait true try type typedef " +
  "typeof undefined union unsafe unsigned use using var virtual void volatile where while with yield val fun when",
);
const SCRIPT = words(
  "and as assert async await begin break case class continue def del do done elif else end ensure esac except export False fi finally " +
  "for from function global if import in is lambda local module nil None nonlocal not null or pass raise require rescue return self " +
  "then True true false try unless until when while with yield echo",
);
const QUERY = words(
  "add all alter and as asc begin between by case column commit constraint create cross default delete desc distinct drop else end " +
  "exists false foreign from full function group having if in index inner insert into is join key left like limit local not null on or " +
  "order outer primary references return returns right rollback select set table then true union unique update using values view when where with",
);

/** @param {string[]} patterns for comments and strings @param {Set<string>} keywords @param {boolean} [isCaseless] */
function family([comment, string], keywords, isCaseless = false) {
  const pattern = new RegExp(`(?<comment>${comment})|(?<string>${string})|(?<number>${NUMBER})|(?<word>${WORD})`, "gm");
  return { pattern, isKeyword: (word) => keywords.has(isCaseless ? word.toLowerCase() : word) };
}

const FAMILIES = [
  [family([`${SLASHES}|${BLOCK}`, `${DOUBLE}|${SINGLE}|${BACK}`], C_LIKE),
    "c h cpp c++ cc hpp java js javascript jsx mjs ts typescript tsx go golang kotlin kt swift cs csharp c# php scala dart json jsonc json5 scss less proto zig"],
  [family([`${SLASHES}|${BLOCK}`, `${DOUBLE}|${CHARACTER}`], C_LIKE), "rust rs"],
  [family([BLOCK, `${DOUBLE}|${SINGLE}`], new Set()), "css"],
  [family([SHARP, `${TRIPLE}|${DOUBLE}|${SINGLE}`], SCRIPT),
    "python py ruby rb sh bash zsh shell console yaml yml toml perl pl r dockerfile makefile make ini elixir ex nix"],
  [family([`${DASHES}|${BLOCK}`, `${DOUBLE}|${SINGLE}`], QUERY, true), "sql postgresql mysql sqlite plsql"],
  [family([DASHES, `${DOUBLE}|${SINGLE}`], SCRIPT), "lua haskell hs elm"],
];

const BY_LANGUAGE = new Map(FAMILIES.flatMap(([rules, names]) => names.split(" ").map((name) => [name, rules])));

/**
 * @param {string} code
 * @param {string} language as named after the fence
 * @returns {[Kind, string][]} parts that together make up the code
 */
export function highlight(code, language) {
  const rules = BY_LANGUAGE.get(language.toLowerCase());
  if (!rules || code.length > MAX_CODE) return [[null, code]];
  /** @type {[Kind, string][]} */ const parts = [];
  let end = 0;
  for (const { 0: text, index, groups } of code.matchAll(rules.pattern)) {
    const kind = kindOf(groups, rules);
    if (kind === null) continue;
    if (index > end) parts.push([null, code.slice(end, index)]);
    parts.push([kind, text]);
    end = index + text.length;
  }
  if (end < code.length) parts.push([null, code.slice(end)]);
  return parts;
}

/** @returns {Kind} */
function kindOf({ comment, string, number, word }, { isKeyword }) {
  if (comment !== undefined) return "comment";
  if (string !== undefined) return "string";
  if (number !== undefined) return "number";
  return isKeyword(word) ? "keyword" : null;
}
