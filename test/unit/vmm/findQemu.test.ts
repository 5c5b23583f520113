import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { findQemu, qemuVersion } from '../../../src/vmm/qemu/findQemu.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const soon = () => AbortSignal.timeout(5000);

async function script(path: string, text: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );
}

describe('findQemu', () => {
  it('takes the configured one, else the first in the search path', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'qemu-system-x86_64');
    await script(path, '');
    expect(await findQemu(undefined, `/nowhere:relative:${directory.path}`)).to.equal(path);
    expect(await findQemu(path, '')).to.equal(path);
  });

  it('says how to get one when there is none', async () => {
    for (const missing of [findQemu(undefined, '/nowhere'), findQemu('/nowhere/qemu', '/usr/bin')]) {
      const failure = await failureOf(missing);
      expect(failure).to.have.property('code', 'QEMU_MISSING');
      expect(failure).to.have.property('hint').that.includes('apt-get install qemu-system-x86');
    }
  });
});

describe('qemuVersion', () => {
  it('reads it, once for each state of the file', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'qemu');
    const count = join(directory.path, 'count');
    await script(path, `echo x >> ${count}; echo "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"`);
    expect(await qemuVersion(path, soon())).to.equal('7.2.22');
    await script(count, 'exit 1'); // nothing reads it again
    expect(await qemuVersion(path, soon())).to.equal('7.2.22');
    await script(path, 'echo "QEMU emulator version 10.0"');
    expect(await qemuVersion(path, soon())).to.equal('10.0');
  });

  it('refuses a program that is not QEMU', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'qemu');
    await script(path, 'echo hello');
    expect(await failureOf(qemuVersion(path, soon()))).to.have.property('code', 'QEMU_FAILED');
    await script(path, 'exit 3');
    expect(await failureOf(qemuVersion(path, soon()))).to.have.property('code', 'QEMU_FAILED');
  });
});
