import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import { exampleSpec } from '../../oci/exampleSpec.ts';
import type { OciVerb } from './ociVerb.ts';

export const spec: OciVerb = {
  name: 'spec',
  summary: 'create a new specification file',
  usage: '[command options]',
  args: [0, 0],
  flags: [
    {
      name: 'bundle',
      aliases: ['b'],
      kind: 'string',
      description: 'path to the root of the bundle directory',
    },
    { name: 'rootless', kind: 'bool', description: 'refused: rootless containers are not supported' },
  ],
  async run({ flags, caller, context, signal }) {
    if (flags.bool('rootless')) {
      throw new HrunError('SPEC_UNSUPPORTED', 'rootless containers are not supported');
    }
    const path = posix.join(flags.text('bundle') ?? context.session.cwd, 'config.json');
    const there = await caller.files.stat(path, { followLink: true }, signal).then(
      () => true,
      () => false,
    );
    if (there) throw new HrunError('ALREADY_EXISTS', 'File config.json exists. Remove it first');
    await using file = await caller.files.openWrite(path, { exclusive: true, mode: 0o666 }, signal);
    await file.write(Buffer.from(JSON.stringify(exampleSpec(), undefined, '\t')), signal);
    await file.close(signal);
    return 0;
  },
};
