/** What the highlighter tells apart in code. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_CODE, highlight } from "../../runtime/web/highlight.js";
import { chance } from "./fake.mjs";

/** The texts of one kind. */
const of = (kind, code, language) => highlight(code, language).filter(([other]) => other === kind).map(([, text]) => text.trim());

test("comments, strings, numbers and keywords are told apart", () => {
  const rust = "// a \"b\" 1\nfn f<'a>(x: &'a str) -> u8 { /* let\n2 */ let y = '\\''; \"// no\"; 0x1f + 2.5e3 }";
  assert.deepEqual(of("comment", rust, "rust"), ["// a \"b\" 1", "/* let\n2 */"]);
  assert.deepEqual(of("string", rust, "rust"), ["'\\''", "\"// no\""]);
  assert.deepEqual(of("number", rust, "rust"), ["0x1f", "2.5e3"]);
  assert.deepEqual(of("keyword", rust, "rust"), ["fn", "let"]);
  const python = "# a\nx = '''b\nc''' + f\"d\" # e\ny = x#f\ndef g(): return None";
  assert.deepEqual(of("comment", python, "Python"), ["# a", "# e"]);
  assert.deepEqual(of("string", python, "py"), ["'''b\nc'''", "\"d\""]);
  assert.deepEqual(of("keyword", python, "py"), ["def", "return", "None"]);
  assert.deepEqual(of("keyword", "SELECT a from b -- where", "sql"), ["SELECT", "from"]);
  assert.deepEqual(of("comment", "echo $# ${#a} # b", "sh"), ["# b"]);
  assert.deepEqual(of("comment", "a { b: url(http://c) } /* d */", "css"), ["/* d */"]);
  assert.deepEqual(of("keyword", "const iffy = `if ${a}`", "js"), ["const"]);
  assert.deepEqual(of("number", "{\"a\": 1.5}", "json"), ["1.5"]);
});

test("code of a language that is not known, and very long code, stays as it is", () => {
  assert.deepEqual(highlight("let a = 1", ""), [[null, "let a = 1"]]);
  assert.deepEqual(highlight("let a = 1", "constructor"), [[null, "let a = 1"]]);
  const long = "1 ".repeat(MAX_CODE);
  assert.deepEqual(highlight(long, "js"), [[null, long]]);
});

test("whatever the code is, nothing of it is lost, and it does not take long", () => {
  const pieces = ["\"", "'", "`", "\\", "/*", "*/", "//", "#", " #", "--", "\n", "\"\"\"", "'''", "if", "x", "1", "0x", ".", "$", "{", "é", " "];
  const random = chance(3);
  for (const language of ["js", "rust", "css", "py", "sql", "lua"]) {
    for (let round = 0; round < 500; round++) {
      const code = Array.from({ length: 60 }, () => pieces[Math.floor(random() * pieces.length)]).join("");
      assert.equal(highlight(code, language).map(([, text]) => text).join(""), code);
    }
    for (const piece of pieces) {
      const code = piece.repeat(MAX_CODE / piece.length);
      const start = performance.now();
      assert.equal(highlight(code, language).map(([, text]) => text).join(""), code);
      assert.ok(performance.now() - start < 500, `${language}: ${JSON.stringify(piece)}`);
    }
  }
});
