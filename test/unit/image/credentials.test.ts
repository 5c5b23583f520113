import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import { credentialHelperIn, findCredentials } from '../../../src/image/credentials.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const never = new AbortController().signal;
const base64 = (text: string) => Buffer.from(text).toString('base64');
const noHelper = async () => {
  throw new Error('no helper is expected to run');
};

async function find(config: object, domain: string, path = 'team/app', helper = noHelper as never) {
  return await findCredentials(JSON.stringify(config), { domain, path }, helper, never);
}

const password = (username: string, secret: string) => ({ kind: 'password', username, password: secret });

describe('findCredentials', () => {
  it('decodes auth and keeps colons of the password', async () => {
    const config = { auths: { 'host.example': { auth: base64('me:se:cret') } } };
    expect(await find(config, 'host.example')).to.deep.equal(password('me', 'se:cret'));
    expect(await find(config, 'other.example')).to.equal(undefined);
    expect(await find({}, 'host.example')).to.equal(undefined);
    expect(await find({ auths: { 'host.example': {} } }, 'host.example')).to.equal(undefined);
  });

  it('knows the names of Docker Hub and keys with a scheme', async () => {
    const hub = { auths: { 'https://index.docker.io/v1/': { auth: base64('a:b') } } };
    expect(await find(hub, 'docker.io')).to.deep.equal(password('a', 'b'));
    const scheme = { auths: { 'https://host.example': { username: 'a', password: 'b' } } };
    expect(await find(scheme, 'host.example')).to.deep.equal(password('a', 'b'));
  });

  it('prefers the longest namespace and never another host with the same start', async () => {
    const config = {
      auths: {
        host: { auth: base64('wrong:x') },
        'host.example': { auth: base64('all:x') },
        'host.example/team': { auth: base64('team:x') },
        'host.example/team/app2': { auth: base64('app2:x') },
      },
    };
    expect(await find(config, 'host.example')).to.deep.equal(password('team', 'x'));
    expect(await find(config, 'host.example', 'other/app')).to.deep.equal(password('all', 'x'));
    expect(await find(config, 'host.example.evil')).to.equal(undefined);
  });

  it('takes an identity token', async () => {
    const config = { auths: { h: { auth: base64('x:'), identitytoken: 'T' } } };
    expect(await find(config, 'h')).to.deep.equal({ kind: 'identity-token', token: 'T' });
  });

  it('asks the helper of the host, else the store, and falls back to auths', async () => {
    const asked: string[] = [];
    const helper = async (name: string, server: string) => {
      asked.push(`${name} ${server}`);
      return name === 'empty' ? undefined : JSON.stringify({ Username: name, Secret: 's' });
    };
    const config = {
      credHelpers: { 'host.example': 'one' },
      credsStore: 'two',
      auths: { 'third.example': { auth: base64('a:b') } },
    };
    expect(await find(config, 'host.example', 'x', helper as never)).to.deep.equal(password('one', 's'));
    expect(await find(config, 'docker.io', 'x', helper as never)).to.deep.equal(password('two', 's'));
    const empty = { ...config, credsStore: 'empty' };
    expect(await find(empty, 'third.example', 'x', helper as never)).to.deep.equal(password('a', 'b'));
    expect(asked).to.deep.equal([
      'one host.example',
      'two https://index.docker.io/v1/',
      'empty third.example',
    ]);
  });

  it('understands a token from a helper', async () => {
    const helper = async () => JSON.stringify({ Username: '<token>', Secret: 'T' });
    const found = await find({ credsStore: 'x' }, 'h', 'p', helper as never);
    expect(found).to.deep.equal({ kind: 'identity-token', token: 'T' });
  });

  it('refuses a configuration, a helper name and an answer that are wrong', async () => {
    const failures = [
      () => findCredentials('{', { domain: 'h', path: 'p' }, noHelper, never),
      () => find({ auths: [] }, 'h'),
      () => find({ auths: { h: { auth: base64('nocolon') } } }, 'h'),
      () => find({ credsStore: '../evil' }, 'h'),
      () => find({ credsStore: 'x;rm -rf' }, 'h'),
      () => find({ credsStore: 'ok' }, 'h', 'p', (async () => 'nonsense') as never),
      () => find({ credsStore: 'ok' }, 'h', 'p', (async () => '{"Username":1}') as never),
    ];
    for (const failing of failures) {
      const error = await failing().then(String, (reason: unknown) => reason);
      expect(error).to.be.instanceOf(HrunError).with.property('code', 'INVALID_CONFIG');
      expect(String(error)).not.to.include('nocolon');
    }
  });
});

describe('credentialHelperIn', () => {
  async function withHelper(
    script: string,
    use: (run: ReturnType<typeof credentialHelperIn>) => Promise<void>,
  ) {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'docker-credential-test');
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
    await use(credentialHelperIn(new Map([['PATH', `${directory.path}:/bin:/usr/bin`]])));
  }

  it('sends the server on stdin and answers stdout', async () => {
    await withHelper('read s; echo "$1 $s"', async (run) => {
      expect(await run('test', 'host.example', never)).to.equal('get host.example\n');
    });
  });

  it('tells "not found" from failure', async () => {
    await withHelper('echo credentials not found in native keychain; exit 1', async (run) => {
      expect(await run('test', 'h', never)).to.equal(undefined);
    });
    await withHelper('echo broken; exit 3', async (run) => {
      expect(String(await run('test', 'h', never).catch((error: unknown) => error))).to.include('broken');
    });
  });

  it('does not read without end', async () => {
    await withHelper('exec yes', async (run) => {
      expect(await run('test', 'h', never).catch(() => 'failed')).to.equal('failed');
    });
  });

  it('is named when it is missing', async () => {
    const run = credentialHelperIn(new Map([['PATH', '/nonexistent']]));
    const error = await findCredentials(
      '{"credsStore":"gone"}',
      { domain: 'h', path: 'p' },
      run,
      never,
    ).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(HrunError);
    expect(String(error)).to.include('docker-credential-gone failed: it is not installed');
  });
});
