import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseConfig, readConfig } from '../../../src/base/config.ts';
import { isHrunError } from '../../../src/base/errors.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

function refusal(text: string): string {
  try {
    parseConfig(text, '/etc/hrun/config.json');
  } catch (error) {
    if (isHrunError(error, 'INVALID_CONFIG')) return error.message;
    throw error;
  }
  throw new Error('was accepted');
}

describe('configuration', () => {
  it('has a default for every key', async () => {
    await using directory = await temporaryDirectory();
    const config = await readConfig(join(directory.path, 'config.json'));
    expect(config).to.include({
      accelerator: 'auto',
      memoryBytes: 512 * 1024 ** 2,
      cpus: 1,
      storageBytes: 10 * 1024 ** 3,
      stopTimeoutS: 10,
      kernelPath: undefined,
    });
  });

  it('takes what the file says', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'config.json');
    await writeFile(path, '{"memory": "1.5g", "insecureRegistries": ["localhost:5000"], "kernel": "/k"}');
    const config = await readConfig(path);
    expect(config).to.include({ memoryBytes: 1.5 * 1024 ** 3, kernelPath: '/k' });
    expect(config.insecureRegistries).to.deep.equal(['localhost:5000']);
  });

  it('names the file and the key that is wrong', () => {
    expect(refusal('{"memroy": "1g"}')).to.equal('/etc/hrun/config.json: unknown key "memroy"');
    expect(refusal('{"memory": "much"}')).to.include('"memory": "much" is not a size');
    expect(refusal('{"kernel": "vmlinux"}')).to.include('"kernel": must be an absolute path');
    expect(refusal('{"cpus": 0}')).to.include('"cpus"');
    expect(refusal('{"insecureRegistries": ["a", 3]}')).to.include('"insecureRegistries.1"');
    expect(refusal('[]')).to.include('/etc/hrun/config.json');
    expect(refusal('{')).to.include('is not JSON');
  });
});
