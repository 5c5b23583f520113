import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import type { BuildDeps } from '../../../src/pool/buildTemplate.ts';
import { TemplateStore } from '../../../src/pool/templateStore.ts';
import { Templates } from '../../../src/pool/templates.ts';
import type { VmShape } from '../../../src/vmm/microVm.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const key = 'a'.repeat(32);
const shape: VmShape = {
  kernelPath: '/vmlinux',
  initramfsPath: '/initramfs',
  accelerator: 'tcg',
  vcpus: 1,
  memoryMiB: 512,
  transport: 'serial',
  kernelParameters: [],
};
const never = new AbortController().signal;

describe('templates', () => {
  it('that cannot be built fail once for all who wait, and are tried again by who comes later', async () => {
    await using directory = await temporaryDirectory();
    const builds: PromiseWithResolvers<BuildDeps>[] = [];
    using templates = new Templates({
      store: await TemplateStore.open(directory.path),
      build: () => {
        builds.push(Promise.withResolvers());
        return builds.at(-1)?.promise ?? Promise.reject();
      },
      now: () => 0n,
    });
    const use = (signal = never) =>
      templates.use(key, shape, { kind: 'host' }, signal).catch((error: Error) => error.message);
    const leaving = new AbortController();
    const all = [use(leaving.signal), use(), use()];
    while (builds.length === 0) await turn();
    leaving.abort(new Error('somebody left'));
    expect(await all[0]).to.equal('somebody left');
    builds[0]?.reject(new Error('no guest'));
    expect(await Promise.all(all.slice(1))).to.deep.equal(['no guest', 'no guest']);
    expect(builds).to.have.length(1);
    const later = use();
    while (builds.length === 1) await turn();
    builds[1]?.reject(new Error('still no guest'));
    expect(await later).to.equal('still no guest');
  });
});
