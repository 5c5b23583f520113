import { expect } from 'chai';
import { faceOf } from '../../../../src/cli/oci/face.ts';
import { findOciVerb } from '../../../../src/cli/oci/verbs.ts';

const face = (...argv: string[]) => faceOf(argv, async (verb) => findOciVerb(verb)?.flags ?? []);
const kind = async (...argv: string[]) => (await face(...argv)).kind;
const id = 'a'.repeat(64);

describe('which face a command line speaks to', () => {
  it('takes "oci" for the one and "container" for the other, whatever follows', async () => {
    expect(await face('oci', 'run', 'x')).to.deep.equal({ kind: 'oci', argv: ['run', 'x'] });
    expect(await kind('container', 'run', '--bundle', 'x', 'y')).to.equal('host');
    expect(await kind('image', 'ls')).to.equal('host');
  });

  it('knows the callers of runc by their global options', async () => {
    expect(await kind('--root', '/r', '--log', 'l', '--log-format', 'json', 'start', 'c')).to.equal('oci');
    expect(await kind('--systemd-cgroup', 'create', 'c')).to.equal('oci');
    expect(await kind('--root=/r', 'ps', 'c')).to.equal('oci');
    expect(await kind('--version')).to.equal('oci');
    expect(await kind('--help')).to.equal('host');
  });

  it('takes create and run for images unless an option says otherwise', async () => {
    expect(await kind('create', '--bundle', '/b', '--pid-file', '/p', id)).to.equal('oci');
    expect(await kind('run', '-b', '/b', 'c')).to.equal('oci');
    expect(await kind('run', '--keep', 'c')).to.equal('oci');
    expect(await kind('run', '-d', 'busybox')).to.equal('host');
    expect(await kind('run', '-v', '/b:/b', 'busybox', '--bundle', 'x')).to.equal('host');
    expect(await kind('run', '--rm', '-it', 'busybox', 'sh')).to.equal('host');
    expect(await kind('run', './bundle')).to.equal('host');
  });

  it('takes the verbs that only runc has', async () => {
    for (const verb of ['state', 'delete', 'list', 'pause', 'resume', 'update', 'spec', 'features']) {
      expect(await kind(verb, 'c'), verb).to.equal('oci');
    }
  });

  it('leaves shared verbs to who knows the container', async () => {
    expect(await face('start', 'web')).to.deep.equal({ kind: 'container', container: 'web', orElse: 'host' });
    expect(await face('start', id)).to.deep.equal({ kind: 'container', container: id, orElse: 'oci' });
    expect(await face('kill', 'web', '15')).to.include({ kind: 'container', orElse: 'oci' });
    expect(await face('kill', 'web', 'SIGTERM')).to.include({ kind: 'container', orElse: 'oci' });
    expect(await face('kill', 'web', 'db')).to.include({ kind: 'container', orElse: 'host' });
    expect(await kind('kill', '-s', 'TERM', 'web')).to.equal('host');
    expect(await kind('kill', '--all', 'c', '9')).to.equal('oci');
    expect(await face('exec', '-e', 'A=b', '-t', 'web', 'sh')).to.include({
      kind: 'container',
      container: 'web',
    });
    expect(await kind('exec', '-it', 'web', 'sh')).to.equal('host');
    expect(await kind('exec', '--pid-file', 'p', '--process', 'f', '--detach', 'c')).to.equal('oci');
    expect(await kind('ps')).to.equal('host');
    expect(await kind('ps', '-a')).to.equal('host');
    expect(await kind('ps', '--format', 'json', 'c')).to.equal('oci');
    expect(await kind('events')).to.equal('host');
    expect(await kind('events', '--since', '1h', '--filter', 'container=c')).to.equal('host');
    expect(await kind('events', '--stats', 'c')).to.equal('oci');
    expect(await kind('events', '--interval', '1s', 'c')).to.equal('oci');
  });
});
