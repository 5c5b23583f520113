import { expect } from 'chai';
import { owedEvents } from '../../../../src/runtime/containerEvents.ts';
import { ociEvent, ociEventsOfChange, ociLifeOf } from '../../../../src/runtime/oci/ociEvents.ts';
import type { OciRecord } from '../../../../src/runtime/oci/ociRecord.ts';
import { ociRecord } from '../../../helpers/ociRecord.ts';

const record = ociRecord('web');
const in_ = (status: OciRecord['status'], more: Partial<OciRecord> = {}) => ({ ...record, status, ...more });
const actions = (events: readonly { readonly action: string }[]) => events.map(({ action }) => action);

describe("events of a manager's container", () => {
  it('follow from what its record becomes', () => {
    expect(ociEventsOfChange(undefined, in_('creating'))).to.deep.equal([]);
    expect(actions(ociEventsOfChange(in_('creating'), in_('created')))).to.deep.equal(['create']);
    expect(actions(ociEventsOfChange(in_('created'), in_('running')))).to.deep.equal(['start']);
    const paused = in_('running', { paused: true });
    expect(actions(ociEventsOfChange(in_('running'), paused))).to.deep.equal(['pause']);
    expect(actions(ociEventsOfChange(paused, in_('running')))).to.deep.equal(['unpause']);
    const died = ociEventsOfChange(paused, in_('stopped', { exitCode: 137, oomKilled: true }));
    expect(actions(died)).to.deep.equal(['oom', 'die']);
    expect(died[1]?.attributes).to.deep.equal({ role: 'test', bundle: '/b', name: 'web', exitCode: '137' });
    expect(actions(ociEventsOfChange(in_('stopped'), undefined))).to.deep.equal(['destroy']);
  });

  it('are none of a container that was never finished', () => {
    expect(ociEventsOfChange(in_('creating'), undefined)).to.deep.equal([]);
  });

  it('that a dead daemon still owed are told by the next', () => {
    const log = (...words: string[]) => words.map((action) => ({ ...ociEvent(record, action), timeNs: 0n }));
    expect(actions(owedEvents(log('create'), [ociLifeOf(in_('running'))]))).to.deep.equal(['start']);
    expect(actions(owedEvents(log('create'), [ociLifeOf(in_('stopped'))]))).to.deep.equal(['die']);
    expect(owedEvents(log('create', 'start', 'die'), [ociLifeOf(in_('stopped'))])).to.deep.equal([]);
    // The run directory went with a reboot.
    expect(actions(owedEvents(log('create', 'start'), []))).to.deep.equal(['destroy']);
  });
});
