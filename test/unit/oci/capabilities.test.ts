import { expect } from 'chai';
import { effectiveCapabilities } from '../../../src/oci/capabilities.ts';

const defaults = ['CAP_CHOWN', 'CAP_KILL', 'CAP_MKNOD'];

describe('capabilities', () => {
  const of = (add: string[], drop: string[]) => effectiveCapabilities(defaults, add, drop);

  it('are the defaults, with some added and some dropped', () => {
    expect(of(['CAP_SYS_TIME'], ['CAP_KILL'])).to.have.members(['CAP_CHOWN', 'CAP_MKNOD', 'CAP_SYS_TIME']);
  });
  it('are only what is added when all are dropped', () => {
    expect(of(['CAP_SYS_TIME'], ['ALL'])).to.deep.equal(['CAP_SYS_TIME']);
    expect(of([], ['ALL'])).to.deep.equal([]);
  });
  it('are all but what is dropped when all are added', () => {
    const all = of(['ALL'], ['CAP_SYS_ADMIN']);
    expect(all).to.include('CAP_BPF').and.not.include('CAP_SYS_ADMIN');
    expect(all).to.have.length(40);
  });
});
