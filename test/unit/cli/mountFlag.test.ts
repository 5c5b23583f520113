import { expect } from 'chai';
import { isHrunError } from '../../../src/base/errors.ts';
import { csvFields } from '../../../src/cli/parse/csvFields.ts';
import { parseMount } from '../../../src/cli/parse/mountFlag.ts';
import { parseVolume } from '../../../src/cli/parse/volumeFlag.ts';

function refusalOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isHrunError(error, 'INVALID_ARGUMENT')) return error.message;
    throw error;
  }
  return 'nothing';
}

describe('--mount', () => {
  const plain = { readonly: false, options: [] };

  it('takes a bind, whose source must be there', () => {
    expect(parseMount('type=bind,src=/a,dst=/b,readonly', '/')).to.deep.equal({
      type: 'bind',
      bind: { source: '/a', destination: '/b', readonly: true, options: [], create: false },
    });
    expect(parseMount('type=BIND,Source=./x,target=/b/,ro=false,nodev,nosuid', '/home')).to.deep.equal({
      type: 'bind',
      bind: {
        ...{ source: '/home/x', destination: '/b', readonly: false, create: false },
        options: ['nosuid', 'nodev'],
      },
    });
  });

  it('takes quoted fields, as a line of CSV', () => {
    const mount = parseMount('type=bind,"src=/a,b ""c""",dst=/b', '/');
    expect(mount.type === 'bind' && mount.bind.source).to.equal('/a,b "c"');
  });

  it('takes volumes, which are what is meant without a type', () => {
    expect(parseMount('src=db,dst=/d', '/')).to.deep.equal({
      type: 'volume',
      volume: { ...plain, name: 'db', destination: '/d', nocopy: false, labels: {} },
    });
    const text = 'type=volume,source=db,dst=/d,volume-nocopy,volume-driver=disk,volume-label=a=b';
    expect(parseMount(text, '/')).to.deep.equal({
      type: 'volume',
      volume: {
        ...plain,
        ...{ name: 'db', destination: '/d', nocopy: true, labels: { a: 'b' }, driver: 'disk' },
      },
    });
    expect(parseMount('type=volume,dst=/d', '/')).to.deep.equal({ type: 'anonymous', destination: '/d' });
  });

  it('takes a tmpfs with size and mode', () => {
    expect(parseMount('type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770,noexec', '/')).to.deep.equal({
      type: 'tmpfs',
      tmpfs: { destination: '/t', options: ['size=67108864', 'mode=1770', 'noexec'] },
    });
  });

  it('takes images and disks', () => {
    expect(parseMount('type=image,src=busybox:1,dst=/i', '/')).to.deep.equal({
      type: 'image',
      image: { image: 'busybox:1', destination: '/i' },
    });
    expect(parseMount('type=disk,src=./d.qcow2,dst=/d,fs=xfs,ro', '/home')).to.deep.equal({
      type: 'disk',
      disk: { source: '/home/d.qcow2', destination: '/d', readonly: true, options: [], fs: 'xfs' },
    });
  });

  for (const [text, message] of [
    ['type=bind,src=/a,dst=/b,colour=red', "unexpected key 'colour' in 'colour=red'"],
    ['type=bind,src=/a,dst=/b,writable', "invalid field 'writable' must be a key=value pair"],
    ['type=bind,src,dst=/b', "invalid field 'src' must be a key=value pair"],
    ['type=nfs,src=/a,dst=/b', 'the type "nfs" is unknown'],
    ['type=bind,src=/a', 'target is required'],
    ['type=bind,dst=/b', "a mount of type 'bind' needs a source"],
    ['type=bind,src=a,dst=/b', 'must be absolute'],
    ['type=bind,src=/a,dst=b', 'it must be absolute'],
    ['type=bind,src=/a,dst=/', "it can't be /"],
    ['type=bind,src=/a,dst=/b,ro=maybe', 'invalid value for readonly: maybe'],
    ['type=bind,src=/a,dst=/b,bind-propagation=rshared', 'propagation "rshared" is not supported'],
    ['type=bind,src=/a,dst=/b,bind-recursive=readonly', 'bind-recursive=readonly is not supported'],
    ['type=bind,src=/a,dst=/b,volume-nocopy', "cannot mix 'volume-*' options with mount type 'bind'"],
    ['type=volume,src=v1,dst=/b,tmpfs-size=1m', "cannot mix 'tmpfs-*' options with mount type 'volume'"],
    ['type=volume,src=v1,dst=/b,fs=ext4', "cannot mix 'fs' options with mount type 'volume'"],
    ['type=volume,src=v1,dst=/b,volume-driver=nfs', 'the volume driver "nfs" is unknown'],
    ['type=volume,dst=/b,ro', 'an anonymous volume takes no options'],
    ['type=volume,src=a/b,dst=/b', 'includes invalid characters'],
    ['type=tmpfs,src=/a,dst=/b', 'a tmpfs has no source'],
    ['type=tmpfs,dst=/b,tmpfs-mode=9', 'invalid value for tmpfs-mode: 9'],
    ['type=tmpfs,dst=/b,tmpfs-size=much', 'is not a size'],
    ['type=disk,src=/a,dst=/b,fs=vfat', 'the file system "vfat" is unknown'],
    ['type=bind,"src=/a,dst=/b', 'a quote is out of place'],
  ] as const) {
    it(`refuses ${text}`, () => {
      expect(refusalOf(() => parseMount(text, '/'))).to.contain(message);
    });
  }

  it('splits as Go does', () => {
    expect(csvFields('', 'x')).to.deep.equal(['']);
    expect(csvFields('a,,b,', 'x')).to.deep.equal(['a', '', 'b', '']);
    expect(csvFields('"a""b",c', 'x')).to.deep.equal(['a"b', 'c']);
    for (const wrong of ['a"b', '"a"b', '"a'])
      expect(refusalOf(() => csvFields(wrong, 'x'))).not.to.equal('nothing');
  });
});

describe('-v', () => {
  it('takes names of volumes, with their options', () => {
    expect(parseVolume('db:/d:ro,nocopy,noexec,nosuid', '/')).to.deep.equal({
      type: 'volume',
      volume: {
        ...{ name: 'db', destination: '/d', readonly: true, nocopy: true, labels: {} },
        options: ['nosuid', 'noexec'],
      },
    });
  });

  it('takes what propagates nothing', () => {
    const parsed = parseVolume('/a:/b:rprivate', '/');
    expect(parsed.type).to.equal('bind');
  });
});
