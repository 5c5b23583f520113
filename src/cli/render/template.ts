import {
  describe,
  entriesOf,
  executionError,
  formatValue,
  isTrue,
  templateFunctions,
} from './templateFunctions.ts';
import { type Node, type Operand, type Pipeline, parseTemplate, templateError } from './templateParser.ts';

/** A Go template, ready to be filled. Rows are plain objects; a method of a row is a function in it. */
export type Template = (data: unknown) => string;

/**
 * Compiles the part of Go's text/template that Docker's `--format` uses: fields, pipelines, functions, `if`, `range`,
 * `with`, variables and trimming. A field that an object lacks is an error; a key that a Map lacks is `<no value>`.
 * @throws HrunError TEMPLATE_INVALID for the syntax and an unknown function; the template itself INVALID_ARGUMENT for a wrong field
 */
export function compileTemplate(source: string): Template {
  const nodes = parseTemplate(source);
  checkFunctions(nodes);
  return (data) => {
    const scope: Scope = { dot: data, variables: new Map([['$', data]]) };
    return execute(nodes, scope);
  };
}

interface Scope {
  readonly dot: unknown;
  readonly variables: Map<string, unknown>;
}

function execute(nodes: readonly Node[], scope: Scope): string {
  return nodes.map((node) => executeNode(node, scope)).join('');
}

function executeNode(node: Node, scope: Scope): string {
  switch (node.kind) {
    case 'text':
      return node.text;
    case 'print': {
      const value = evaluate(node.pipeline, scope);
      return node.pipeline.declares.length > 0 ? '' : formatValue(value);
    }
    case 'if': {
      const inner = nested(scope);
      const branch = node.branches.find(({ condition }) => isTrue(evaluate(condition, inner)));
      return execute(branch?.body ?? node.otherwise, inner);
    }
    case 'with': {
      const inner = nested(scope);
      const value = evaluate(node.pipeline, inner);
      return isTrue(value) ? execute(node.body, { ...inner, dot: value }) : execute(node.otherwise, inner);
    }
    case 'range':
      return executeRange(node, scope);
  }
}

function executeRange(node: Node & { readonly kind: 'range' }, scope: Scope): string {
  const value = evaluate({ ...node.pipeline, declares: [] }, scope);
  const items = rangeItems(value);
  if (items.length === 0) return execute(node.otherwise, scope);
  const names = node.pipeline.declares;
  return items
    .map(([key, item]) => {
      const inner = nested(scope);
      const [first, second] = names;
      if (first !== undefined) inner.variables.set(first, second === undefined ? item : key);
      if (second !== undefined) inner.variables.set(second, item);
      return execute(node.body, { ...inner, dot: item });
    })
    .join('');
}

function rangeItems(value: unknown): (readonly [unknown, unknown])[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.map((item, index) => [index, item]);
  const entries = entriesOf(value);
  if (entries === undefined) throw executionError(`range can't iterate over ${formatValue(value)}`);
  return entries;
}

function nested(scope: Scope): Scope {
  return { dot: scope.dot, variables: new Map(scope.variables) };
}

function evaluate({ declares, commands }: Pipeline, scope: Scope): unknown {
  let value: unknown;
  for (const [index, command] of commands.entries()) {
    value = evaluateCommand(command, scope, index === 0 ? [] : [value]);
  }
  for (const name of declares) scope.variables.set(name, value);
  return value;
}

function evaluateCommand(command: readonly Operand[], scope: Scope, piped: readonly unknown[]): unknown {
  const [head, ...rest] = command;
  if (head === undefined) return undefined;
  const args = () => [...rest.map((operand) => evaluateOperand(operand, scope)), ...piped];
  if (head.kind === 'function') {
    const called = templateFunctions.get(head.name);
    if (called === undefined) throw templateError(`function "${head.name}" not defined`);
    return called(...args());
  }
  const value = evaluateOperand(head, scope, args);
  if (rest.length + piped.length > 0 && (head.kind === 'literal' || !isMethod(head, scope))) {
    throw executionError(`can't give an argument to ${formatValue(value)}`);
  }
  return value;
}

function isMethod(operand: Operand, scope: Scope): boolean {
  if (operand.kind !== 'dot') return false;
  const field = operand.fields.at(-1);
  const owner = operand.fields.slice(0, -1).reduce(fieldOf, scope.dot);
  return field !== undefined && typeof ownField(owner, field) === 'function';
}

function evaluateOperand(operand: Operand, scope: Scope, args: () => readonly unknown[] = () => []): unknown {
  switch (operand.kind) {
    case 'literal':
      return operand.value;
    case 'dot':
      return callIfMethod(operand.fields.reduce(fieldOf, scope.dot), args);
    case 'variable':
      if (!scope.variables.has(operand.name)) throw templateError(`undefined variable "${operand.name}"`);
      return operand.fields.reduce(fieldOf, scope.variables.get(operand.name));
    case 'group':
      return operand.fields.reduce(fieldOf, evaluate(operand.pipeline, scope));
    case 'function':
      return templateFunctions.get(operand.name)?.();
  }
}

function callIfMethod(value: unknown, args: () => readonly unknown[]): unknown {
  return typeof value === 'function' ? value(...args()) : value;
}

function fieldOf(value: unknown, field: string): unknown {
  if (value instanceof Map) return value.get(field);
  if (value === undefined || value === null) throw executionError(`nil has no field ${field}`);
  const found = ownField(value, field);
  if (found === undefined) {
    throw executionError(
      `can't evaluate field ${field}${typeof value === 'object' ? '' : ` in ${describe(value)}`}`,
    );
  }
  return found;
}

/** Own fields only: what JavaScript's prototypes hold is nobody's data. */
function ownField(value: unknown, field: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, field)) return undefined;
  return Object.getOwnPropertyDescriptor(value, field)?.value;
}

function checkFunctions(nodes: readonly Node[]): void {
  const known = (name: string) => {
    if (!templateFunctions.has(name)) throw templateError(`function "${name}" not defined`);
  };
  const inPipeline = (pipeline: Pipeline): void => {
    for (const operand of pipeline.commands.flat()) {
      if (operand.kind === 'function') known(operand.name);
      if (operand.kind === 'group') inPipeline(operand.pipeline);
    }
  };
  for (const node of nodes) {
    if (node.kind === 'print') inPipeline(node.pipeline);
    if (node.kind === 'if') {
      for (const { condition, body } of node.branches) {
        inPipeline(condition);
        checkFunctions(body);
      }
      checkFunctions(node.otherwise);
    }
    if (node.kind === 'with' || node.kind === 'range') {
      inPipeline(node.pipeline);
      checkFunctions([...node.body, ...node.otherwise]);
    }
  }
}
