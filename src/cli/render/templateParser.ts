import { HrunError } from '../../base/errors.ts';

/** The tree of a Go text/template, as far as Docker's `--format` uses the language. */
export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly pipeline: Pipeline }
  | { readonly kind: 'if'; readonly branches: readonly Branch[]; readonly otherwise: readonly Node[] }
  | {
      readonly kind: 'with';
      readonly pipeline: Pipeline;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    }
  | {
      readonly kind: 'range';
      readonly pipeline: Pipeline;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    };

export interface Branch {
  readonly condition: Pipeline;
  readonly body: readonly Node[];
}

/** `$a, $b := command | command`. */
export interface Pipeline {
  readonly declares: readonly string[];
  readonly commands: readonly (readonly Operand[])[];
}

export type Operand =
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null }
  | { readonly kind: 'function'; readonly name: string }
  /** `.A.B`, `$x.A`, `(…).A`: what it starts from and the fields that follow. */
  | { readonly kind: 'dot'; readonly fields: readonly string[] }
  | { readonly kind: 'variable'; readonly name: string; readonly fields: readonly string[] }
  | { readonly kind: 'group'; readonly pipeline: Pipeline; readonly fields: readonly string[] };

/** @throws HrunError TEMPLATE_INVALID naming what is wrong */
export function parseTemplate(source: string): readonly Node[] {
  const parser = new Parser(splitActions(source));
  const { nodes, ended } = parser.nodes();
  if (ended !== undefined) throw templateError(`unexpected {{${ended}}}`);
  return nodes;
}

export function templateError(reason: string): HrunError {
  return new HrunError('TEMPLATE_INVALID', `template parsing error: ${reason}`, {
    hint: 'the format is a Go template such as "{{.ID}}: {{json .State}}"',
  });
}

type Piece = { readonly text: string } | { readonly tokens: readonly string[] };

function splitActions(source: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  let trimNext = false;
  const pushText = (text: string) => {
    if (text !== '') pieces.push({ text });
  };
  for (;;) {
    const open = source.indexOf('{{', at);
    const raw = source.slice(at, open < 0 ? undefined : open);
    const text = trimNext ? raw.trimStart() : raw;
    if (open < 0) {
      pushText(text);
      return pieces;
    }
    const trimsLeft = /^\{\{- /.test(source.slice(open, open + 4));
    pushText(trimsLeft ? text.trimEnd() : text);
    const { tokens, end, trimsRight } = readAction(source, open + (trimsLeft ? 3 : 2));
    if (tokens.length > 0) pieces.push({ tokens });
    trimNext = trimsRight;
    at = end;
  }
}

const tokenPattern =
  /\s+|\/\*[\s\S]*?\*\/|"(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)'|:=|[()|,]|-?\d[\w.]*|\$\w*|\.[\p{L}_][\p{L}\p{N}_]*|\.|[\p{L}_][\p{L}\p{N}_]*/uy;

/** The tokens up to `}}`; blanks are kept as one blank, since `.A .B` is not `.A.B`. */
function readAction(source: string, from: number): { tokens: string[]; end: number; trimsRight: boolean } {
  const tokens: string[] = [];
  let at = from;
  for (;;) {
    const close = /(?:\s-)?\}\}/y;
    close.lastIndex = at;
    const closed = close.exec(source);
    if (closed !== null) {
      while (tokens.at(-1) === ' ') tokens.pop();
      return { tokens, end: close.lastIndex, trimsRight: closed[0].length > 2 };
    }
    tokenPattern.lastIndex = at;
    const token = tokenPattern.exec(source)?.[0];
    if (token === undefined) {
      throw templateError(
        at >= source.length ? 'unclosed action' : `unexpected "${source.charAt(at)}" in action`,
      );
    }
    at += token.length;
    if (token.startsWith('/*')) continue;
    if (/^\s/.test(token)) {
      if (tokens.length > 0 && tokens.at(-1) !== ' ') tokens.push(' ');
    } else tokens.push(token);
  }
}

class Parser {
  readonly #pieces: readonly Piece[];
  #at = 0;

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces;
  }

  /** Nodes up to the end, or up to `end` or `else …`, which is named. */
  nodes(): { nodes: Node[]; ended: string | undefined; rest: Tokens | undefined } {
    const nodes: Node[] = [];
    for (;;) {
      const piece = this.#pieces[this.#at++];
      if (piece === undefined) return { nodes, ended: undefined, rest: undefined };
      if ('text' in piece) {
        nodes.push({ kind: 'text', text: piece.text });
        continue;
      }
      const tokens = new Tokens(piece.tokens);
      const word = tokens.peek();
      if (word === 'end' || word === 'else') {
        tokens.next();
        return { nodes, ended: word, rest: tokens };
      }
      if (word === 'if' || word === 'range' || word === 'with') {
        tokens.next();
        nodes.push(this.#control(word, tokens));
      } else {
        nodes.push({ kind: 'print', pipeline: parsePipeline(tokens) });
        tokens.expectEnd();
      }
    }
  }

  #control(kind: 'if' | 'range' | 'with', tokens: Tokens): Node {
    const pipeline = parsePipeline(tokens);
    tokens.expectEnd();
    const { nodes: body, ended, rest } = this.nodes();
    if (kind === 'if') {
      const { branches, otherwise } = this.#ifTail(ended, rest);
      return { kind: 'if', branches: [{ condition: pipeline, body }, ...branches], otherwise };
    }
    if (ended === 'end') return { kind, pipeline, body, otherwise: [] };
    if (ended === undefined) throw templateError(`{{${kind}}} without {{end}}`);
    rest?.expectEnd();
    const { nodes: otherwise, ended: close } = this.nodes();
    if (close !== 'end') throw templateError(`{{${kind}}} without {{end}}`);
    return { kind, pipeline, body, otherwise };
  }

  #ifTail(
    ended: string | undefined,
    rest: Tokens | undefined,
  ): { branches: readonly Branch[]; otherwise: readonly Node[] } {
    if (ended === 'end') return { branches: [], otherwise: [] };
    if (ended === undefined || rest === undefined) throw templateError('{{if}} without {{end}}');
    const isElseIf = rest.peek() === 'if';
    if (isElseIf) rest.next();
    const condition = isElseIf ? parsePipeline(rest) : undefined;
    rest.expectEnd();
    const next = this.nodes();
    if (condition === undefined) {
      if (next.ended !== 'end') throw templateError('{{if}} without {{end}}');
      return { branches: [], otherwise: next.nodes };
    }
    const tail = this.#ifTail(next.ended, next.rest);
    return { branches: [{ condition, body: next.nodes }, ...tail.branches], otherwise: tail.otherwise };
  }
}

class Tokens {
  readonly #tokens: readonly string[];
  #at = 0;

  constructor(tokens: readonly string[]) {
    this.#tokens = tokens;
  }

  /** The next token that is no blank. */
  peek(): string | undefined {
    while (this.#tokens[this.#at] === ' ') this.#at += 1;
    return this.#tokens[this.#at];
  }

  next(): string | undefined {
    const token = this.peek();
    this.#at += 1;
    return token;
  }

  /** The next token, blanks included. */
  get adjacent(): string | undefined {
    return this.#tokens[this.#at];
  }

  /** Whether `tokens` come next, blanks aside. */
  comes(...tokens: readonly RegExp[]): boolean {
    const rest = this.#tokens.slice(this.#at).filter((token) => token !== ' ');
    return tokens.every((pattern, index) => pattern.test(rest[index] ?? ''));
  }

  expectEnd(): void {
    const token = this.peek();
    if (token !== undefined) throw templateError(`unexpected "${token}"`);
  }
}

const variable = /^\$\w*$/;

function parsePipeline(tokens: Tokens): Pipeline {
  const declares: string[] = [];
  if (tokens.comes(variable, /^:=$/) || tokens.comes(variable, /^,$/, variable, /^:=$/)) {
    for (let token = tokens.next(); token !== ':='; token = tokens.next()) {
      if (token !== undefined && token !== ',') declares.push(token);
    }
  }
  const commands: Operand[][] = [];
  do {
    const command: Operand[] = [];
    for (
      let token = tokens.peek();
      token !== undefined && token !== '|' && token !== ')';
      token = tokens.peek()
    ) {
      command.push(parseOperand(tokens));
    }
    if (command.length === 0) throw templateError('missing value for command');
    commands.push(command);
  } while (tokens.peek() === '|' && tokens.next() !== undefined);
  return { declares, commands };
}

function parseOperand(tokens: Tokens): Operand {
  const token = tokens.next() ?? '';
  const quoted = /^["'`]/.test(token);
  if (quoted) return { kind: 'literal', value: unquote(token) };
  if (/^-?\d/.test(token)) return { kind: 'literal', value: parseNumber(token) };
  if (token === '(') {
    const pipeline = parsePipeline(tokens);
    if (tokens.next() !== ')') throw templateError('unclosed left paren');
    return { kind: 'group', pipeline, fields: parseFields(tokens) };
  }
  if (token === '.') return { kind: 'dot', fields: [] };
  if (token.startsWith('.')) return { kind: 'dot', fields: [token.slice(1), ...parseFields(tokens)] };
  if (token.startsWith('$')) return { kind: 'variable', name: token, fields: parseFields(tokens) };
  if (token === 'true' || token === 'false') return { kind: 'literal', value: token === 'true' };
  if (token === 'nil') return { kind: 'literal', value: null };
  if (/^[\p{L}_]/u.test(token)) return { kind: 'function', name: token };
  throw templateError(`unexpected "${token}" in operand`);
}

function parseFields(tokens: Tokens): string[] {
  const fields: string[] = [];
  while (tokens.adjacent !== undefined && /^\../.test(tokens.adjacent)) {
    fields.push((tokens.next() ?? '').slice(1));
  }
  return fields;
}

function parseNumber(token: string): number {
  const value = Number(token);
  if (Number.isNaN(value)) throw templateError(`bad number syntax: "${token}"`);
  return value;
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', a: '\x07', '0': '\0' };

function unquote(token: string): string {
  const inner = token.slice(1, -1);
  if (token.startsWith('`')) return inner;
  return inner.replaceAll(/\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)/g, (_all, code: string) =>
    code.length > 1 ? String.fromCodePoint(Number.parseInt(code.slice(1), 16)) : (escapes[code] ?? code),
  );
}
