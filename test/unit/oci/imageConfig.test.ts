import { expect } from 'chai';
import fc from 'fast-check';
import { HrunError } from '../../../src/base/errors.ts';
import { parseImageConfig } from '../../../src/oci/imageConfig.ts';

const digest = `sha256:${'b'.repeat(64)}`;
const base = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digest] } };
const parse = (document: unknown) => parseImageConfig(Buffer.from(JSON.stringify(document)), 'the config');

describe('parseImageConfig', () => {
  it('reads a full config', () => {
    const config = parse({
      ...base,
      variant: 'v2',
      created: '2024-01-02T03:04:05.123456789Z',
      config: {
        User: '1000:users',
        Env: ['A=1', 'B=x=y'],
        Entrypoint: ['/entry'],
        Cmd: ['run', ''],
        WorkingDir: '/srv',
        Volumes: { '/data': {} },
        ExposedPorts: { '80/tcp': {} },
        StopSignal: 'SIGINT',
        Labels: { a: 'b' },
        Healthcheck: { Test: ['x'] },
      },
      history: [{ created_by: 'RUN x', empty_layer: true }, {}],
    });
    expect(config.process).to.deep.equal({
      user: '1000:users',
      env: ['A=1', 'B=x=y'],
      entrypoint: ['/entry'],
      cmd: ['run', ''],
      workingDirectory: '/srv',
      volumes: ['/data'],
      exposedPorts: ['80/tcp'],
      stopSignal: 'SIGINT',
      labels: { a: 'b' },
    });
    expect(config.history.map(({ emptyLayer }) => emptyLayer)).to.deep.equal([true, false]);
    expect(config.diffIds).to.deep.equal([digest]);
  });

  it('takes null and absence for nothing, and an old plain command', () => {
    const empty = parse({ ...base, rootfs: { type: 'layers', diff_ids: null } });
    expect(empty.diffIds).to.deep.equal([]);
    const nulls = { User: null, Env: null, Cmd: null, Volumes: null, Labels: null, Entrypoint: null };
    expect(parse({ ...base, config: nulls }).process).to.deep.equal(empty.process);
    expect(parse({ ...base, config: null, history: null }).process.cmd).to.equal(undefined);
    expect(parse({ ...base, config: { Cmd: '/bin/sh' } }).process.cmd).to.deep.equal(['/bin/sh']);
  });

  it('refuses wrong types, NULs, bad dates and too much', () => {
    for (const wrong of [
      { ...base, rootfs: { type: 'tree', diff_ids: [] } },
      { ...base, rootfs: { type: 'layers', diff_ids: ['../x'] } },
      { ...base, created: 'yesterday' },
      { ...base, os: 7 },
      { ...base, config: { Env: ['A=\0'] } },
      { ...base, config: { Env: { A: 'b' } } },
      { ...base, config: { Cmd: [1] } },
      { ...base, config: { Cmd: ['x'.repeat(131_073)] } },
      { ...base, config: { Env: Array.from({ length: 4097 }, () => 'A=b') } },
      { ...base, config: { User: 'u'.repeat(4097) } },
      { ...base, config: { WorkingDir: '/\0' } },
      { ...base, config: { Labels: { a: 1 } } },
      { ...base, history: 'x' },
      {},
      null,
    ]) {
      expect(() => parse(wrong))
        .to.throw(HrunError)
        .with.property('code', 'IMAGE_INVALID');
    }
  });

  it('is not fooled by names of Object', () => {
    const labels = JSON.parse('{"__proto__":"x","constructor":"y"}');
    const { process } = parse({ ...base, config: { Labels: labels } });
    expect(Object.getPrototypeOf(process.labels)).to.satisfy(
      (p: unknown) => p === Object.prototype || p === null,
    );
    expect(process.labels.constructor).to.equal('y');
  });

  it('answers any JSON with a config or IMAGE_INVALID', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('os', 'config', 'rootfs', 'history', 'created'),
        fc.jsonValue(),
        (key, value) => {
          try {
            parse({ ...base, [key]: value });
          } catch (error) {
            expect(error).to.be.instanceOf(HrunError).with.property('code', 'IMAGE_INVALID');
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
