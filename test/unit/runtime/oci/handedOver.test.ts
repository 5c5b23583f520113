import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLog } from '../../../../src/base/log.ts';
import { HandedOver } from '../../../../src/runtime/oci/handedOver.ts';
import { temporaryDirectory } from '../../../helpers/tempDir.ts';

const name = { scope: 'default', id: 'c' };

describe('containers that another runtime has', () => {
  it('are known to the next daemon, until they are forgotten', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'handed-over.json');
    const handedOver = await HandedOver.open(path, silentLog);
    await handedOver.add(name, 'runc', process.pid);
    await handedOver.add({ scope: 'other', id: 'c' }, 'crun', process.pid);
    const next = await HandedOver.open(path, silentLog);
    expect(next.runtimeOf(name)).to.equal('runc');
    expect(await next.inScope('default')).to.deep.equal([{ id: 'c', runtime: 'runc', underWay: true }]);
    await next.forget(name);
    expect(next.runtimeOf(name)).to.equal(undefined);
    expect((await HandedOver.open(path, silentLog)).runtimeOf({ scope: 'other', id: 'c' })).to.equal('crun');
  });

  it('are under way while who makes them runs', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'handed-over.json');
    await (await HandedOver.open(path, silentLog)).add(name, 'runc', process.pid);
    const { pid } = spawnSync('true');
    const text = (await readFile(path, 'utf8')).replace(`"pid":${process.pid}`, `"pid":${pid}`);
    await writeFile(path, text);
    const [entry] = await (await HandedOver.open(path, silentLog)).inScope('default');
    expect(entry?.underWay).to.equal(false);
  });

  it('are forgotten, and told, when it cannot be read which', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'handed-over.json');
    await writeFile(path, '{');
    const told: object[] = [];
    const log = { error: (fields: object) => void told.push(fields) };
    const handedOver = await HandedOver.open(path, log);
    expect(told).to.have.length(1);
    expect(await readFile(`${path}.damaged`, 'utf8')).to.equal('{');
    await handedOver.add(name, 'runc', process.pid);
    expect((await HandedOver.open(path, log)).runtimeOf(name)).to.equal('runc');
  });
});
