import { expect } from 'chai';
import { renderList } from '../../../src/cli/render/format.ts';
import { prettyJson } from '../../../src/cli/render/json.ts';
import { compileTemplate } from '../../../src/cli/render/template.ts';

const data = {
  ID: 'abc',
  Name: 'calm_hopper',
  Running: true,
  Count: 3,
  Empty: '',
  Args: ['-c', 'echo hi'],
  State: { Status: 'running', Pid: 0 },
  Labels: new Map([
    ['b', '2'],
    ['a.x', '1'],
  ]),
  Label: (name: unknown) => `label of ${name}`,
  Nothing: null,
};

const cases: readonly (readonly [template: string, output: string])[] = [
  ['plain', 'plain'],
  ['{{.ID}}', 'abc'],
  ['<{{ .State.Status }}>', '<running>'],
  ['{{.ID}}\n{{.Name}}', 'abc\ncalm_hopper'],
  ['{{json .}}', '{"ID":"abc"'],
  ['{{json .Args}}', '["-c","echo hi"]'],
  ['{{json .Labels}}', '{"b":"2","a.x":"1"}'],
  ['{{.Args}}', '[-c echo hi]'],
  ['{{.Labels}}', 'map[a.x:1 b:2]'],
  ['{{.Labels.b}}{{.Labels.c}}', '2<no value>'],
  ['{{.Nothing}}', '<no value>'],
  ['{{index .Labels "a.x"}}{{index .Labels "none"}}', '1'],
  ['{{index .Args 1}}', 'echo hi'],
  ['{{len .Args}} {{len .Name}} {{len .Labels}}', '2 11 2'],
  ['{{join .Args ", "}}', '-c, echo hi'],
  ['{{split "a/b" "/" | json}}', '["a","b"]'],
  ['{{.Name | upper}} {{lower "ABC"}} {{title "a bc"}}', 'CALM_HOPPER abc A Bc'],
  ['{{truncate .Name 4}}', 'calm'],
  ['{{println .ID .Count}}', 'abc 3\n'],
  ['{{printf "%-5s|%5s|%d|%q|%.2s|%%" .ID .ID .Count .ID .Name}}', 'abc  |  abc|3|"abc"|ca|%'],
  ['{{if .Running}}up{{else}}down{{end}}', 'up'],
  ['{{if .Empty}}a{{else if eq .Count 3}}b{{else}}c{{end}}', 'b'],
  ['{{if .Empty}}a{{else if eq .Count 4}}b{{else}}c{{end}}', 'c'],
  ['{{if and .Running (ne .State.Pid 1)}}yes{{end}}', 'yes'],
  ['{{or .Empty "default"}} {{not .Running}}', 'default false'],
  ['{{if gt .Count 2}}>{{end}}{{if le .Count 2}}<={{end}}', '>'],
  ['{{range .Args}}[{{.}}]{{end}}', '[-c][echo hi]'],
  ['{{range $i, $a := .Args}}{{$i}}={{$a}};{{end}}', '0=-c;1=echo hi;'],
  ['{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}', 'a.x=1 b=2 '],
  ['{{range .Nothing}}x{{else}}none{{end}}', 'none'],
  ['{{range .Args}}{{$.ID}} {{end}}', 'abc abc '],
  ['{{with .State}}{{.Status}}{{end}}', 'running'],
  ['{{with .Empty}}x{{else}}empty{{end}}', 'empty'],
  ['{{$x := .ID}}{{$x}}{{$x}}', 'abcabc'],
  ['a  {{- .ID -}}  b', 'aabcb'],
  ['{{/* a note */}}x', 'x'],
  ['{{(index .Args 0)}}', '-c'],
  ['{{.Label "x"}}', 'label of x'],
  ['{{"a\\tb"}}{{`c\\t`}}', 'a\tbc\\t'],
  ['{{eq .ID "x" "abc"}}', 'true'],
  ['{{slice .Name 0 4}}', 'calm'],
];

describe('templates', () => {
  for (const [template, output] of cases) {
    it(`fill ${template.replaceAll('\n', '\\n')}`, () => {
      const filled = compileTemplate(template)(data);
      if (template === '{{json .}}') expect(filled.startsWith(output)).to.equal(true);
      else expect(filled).to.equal(output);
    });
  }

  for (const [template, reason] of [
    ['{{.ID', 'unclosed action'],
    ['{{if .ID}}', '{{if}} without {{end}}'],
    ['{{range .Args}}{{else}}', '{{range}} without {{end}}'],
    ['{{end}}', 'unexpected {{end}}'],
    ['{{nope .ID}}', 'function "nope" not defined'],
    ['{{if true}}{{nope}}{{end}}', 'function "nope" not defined'],
    ['{{}}x{{|}}', 'missing value'],
    ['{{.ID !}}', 'unexpected "!"'],
    ['{{(.ID}}', 'unclosed left paren'],
    ['{{1x}}', 'bad number syntax'],
  ] as const) {
    it(`refuse ${template}`, () => expect(() => compileTemplate(template)).to.throw(reason));
  }

  for (const [template, reason] of [
    ['{{.Nope}}', "can't evaluate field Nope"],
    ['{{.ID.Nope}}', "can't evaluate field Nope"],
    ['{{.constructor}}', "can't evaluate field constructor"],
    ['{{.Nothing.X}}', 'nil has no field X'],
    ['{{$x}}', 'undefined variable'],
    ['{{index .Args 7}}', 'index out of range'],
    ['{{len .Count}}', 'len of'],
    ['{{eq .ID 3}}', 'incompatible types'],
    ['{{.ID "x"}}', "can't give an argument"],
    ['{{range .ID}}{{end}}', "range can't iterate"],
  ] as const) {
    it(`fail on ${template}`, () => expect(() => compileTemplate(template)(data)).to.throw(reason));
  }
});

describe('lists', () => {
  const shape = { headers: { ID: 'CONTAINER ID', Names: 'NAMES' }, columns: ['ID', 'Names'] };
  const rows = [
    { ID: 'a', Names: 'one', Label: () => 'l' },
    { ID: 'b234567890123', Names: 'two', Label: () => '' },
  ];

  it('are tables by default', () => {
    expect(renderList(rows, shape)).to.equal(
      'CONTAINER ID    NAMES\na               one\nb234567890123   two\n',
    );
    expect(renderList([], shape)).to.equal('CONTAINER ID   NAMES\n');
  });
  it('have columns at least ten wide', () => {
    expect(renderList([{ ID: 'a', Names: 'n' }], { ...shape, headers: { ID: 'ID', Names: 'N' } })).to.equal(
      'ID        N\na         n\n',
    );
  });
  it('are JSON lines', () => {
    expect(renderList(rows, shape, 'json')).to.equal(
      '{"ID":"a","Names":"one"}\n{"ID":"b234567890123","Names":"two"}\n',
    );
  });
  it('take templates, with a header for tables', () => {
    expect(renderList(rows, shape, '{{.Names}}={{.Label "x"}}')).to.equal('one=l\ntwo=\n');
    expect(renderList(rows, shape, 'table {{.Names}}\\t{{.ID}}')).to.equal(
      'NAMES     CONTAINER ID\none       a\ntwo       b234567890123\n',
    );
  });
});

describe('JSON', () => {
  it('shows maps as objects', () => {
    expect(prettyJson([{ A: new Map([['k', 1]]), B: 2n }])).to.equal(
      '[\n    {\n        "A": {\n            "k": 1\n        },\n        "B": 2\n    }\n]',
    );
  });
});
