import { expect } from 'chai';
import { copyTarget, parseCopyPath } from '../../../src/cli/parse/copyPaths.ts';

const directory = { isDirectory: true };
const file = { isDirectory: false };

describe('paths of cp', () => {
  for (const [text, path] of [
    ['-', { kind: 'stream' }],
    ['web:/etc/hosts', { kind: 'container', container: 'web', path: '/etc/hosts' }],
    ['web:etc', { kind: 'container', container: 'web', path: '/etc' }],
    ['web:/etc/.', { kind: 'container', container: 'web', path: '/etc/.' }],
    ['web:', { kind: 'container', container: 'web', path: '/' }],
    ['./a:b', { kind: 'local', path: './a:b' }],
    ['/a:b', { kind: 'local', path: '/a:b' }],
    ['file', { kind: 'local', path: 'file' }],
  ] as const) {
    it(`read ${text}`, () => expect(parseCopyPath(text)).to.deep.equal(path));
  }
});

describe('a copy lands', () => {
  for (const [what, source, destination, target] of [
    ['a file in a directory', { path: '/a/f', ...file }, { path: 'd', found: directory }, ['d', 'f']],
    ['a file over a file', { path: '/a/f', ...file }, { path: 'd/g', found: file }, ['d', 'g']],
    ['a file under a new name', { path: 'f', ...file }, { path: 'g', found: undefined }, ['.', 'g']],
    [
      'a directory in a directory',
      { path: '/a/d', ...directory },
      { path: '/t', found: directory },
      ['/t', 'd'],
    ],
    [
      'the content of a directory',
      { path: '/a/d/.', ...directory },
      { path: '/t', found: directory },
      ['/t', '.'],
    ],
    [
      'a directory under a new name',
      { path: '/a/d', ...directory },
      { path: '/t/n', found: undefined },
      ['/t', 'n'],
    ],
    [
      'a directory under a new name with a slash',
      { path: 'd', ...directory },
      { path: 't/', found: undefined },
      ['.', 't'],
    ],
  ] as const) {
    it(what, () => {
      const { directory: where, name } = copyTarget(source, destination);
      expect([where, name]).to.deep.equal(target);
    });
  }
  it('nowhere, a directory on a file', () => {
    expect(() => copyTarget({ path: 'd', ...directory }, { path: 'f', found: file })).to.throw(
      'to the file f',
    );
  });
  it('nowhere, a file in a directory that is not there', () => {
    expect(() => copyTarget({ path: 'f', ...file }, { path: 'no/', found: undefined })).to.throw(
      'does not exist',
    );
  });
});
