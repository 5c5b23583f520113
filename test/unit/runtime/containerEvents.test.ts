import { expect } from 'chai';
import { eventsOfChange, lifeOf, owedEvents } from '../../../src/runtime/containerEvents.ts';
import type { ContainerRecord, ContainerState } from '../../../src/runtime/containerRecord.ts';
import { containerRecord } from '../../helpers/containerRecord.ts';

const record = containerRecord('web');

function in_(status: ContainerState['status'], more: Partial<ContainerState> = {}): ContainerRecord {
  return { ...record, state: { ...record.state, status, ...more } };
}

const actions = (events: readonly { readonly action: string }[]) => events.map(({ action }) => action);

describe('events of a container', () => {
  it('follow from what its record becomes', () => {
    expect(actions(eventsOfChange(undefined, in_('created')))).to.deep.equal(['create']);
    expect(actions(eventsOfChange(in_('created'), in_('starting')))).to.deep.equal([]);
    expect(actions(eventsOfChange(in_('starting'), in_('running')))).to.deep.equal(['start']);
    const died = eventsOfChange(in_('running'), in_('exited', { exitCode: 7, oomKilled: true }));
    expect(actions(died)).to.deep.equal(['oom', 'die']);
    expect(died[1]?.attributes).to.include({ exitCode: '7', name: 'web', image: 'busybox' });
    expect(actions(eventsOfChange(in_('exited'), undefined))).to.deep.equal(['destroy']);
  });

  it('tell of a new name and the old one', () => {
    const renamed = eventsOfChange(in_('running'), { ...in_('running'), name: 'new' });
    expect(
      renamed.map(({ action, attributes }) => [action, attributes.name, attributes.oldName]),
    ).to.deep.equal([['rename', 'new', '/web']]);
  });

  it('that a dead daemon still owed are told by the next', () => {
    const told = (action: string) => ({
      ...eventsOfChange(undefined, in_('created'))[0],
      action,
      timeNs: 0n,
    });
    const log = (...words: string[]) => words.map(told) as Parameters<typeof owedEvents>[0];
    expect(actions(owedEvents(log('create', 'start'), [lifeOf(in_('exited'))]))).to.deep.equal(['die']);
    expect(actions(owedEvents(log('create'), [lifeOf(in_('running'))]))).to.deep.equal(['start']);
    expect(actions(owedEvents(log('create', 'start', 'die'), []))).to.deep.equal(['destroy']);
    expect(owedEvents(log('create', 'start', 'die', 'destroy'), [])).to.deep.equal([]);
    expect(owedEvents(log('create', 'start'), [lifeOf(in_('running'))])).to.deep.equal([]);
    expect(owedEvents([], [lifeOf(in_('exited'))])).to.deep.equal([]);
  });
});
