import { expect, it } from 'vitest';
import { rankEnvironment } from './environment.js';

const torchrun = {
  RANK: '3',
  WORLD_SIZE: '4',
  LOCAL_RANK: '1',
  LOCAL_WORLD_SIZE: '2',
  MASTER_ADDR: 'host-a',
  MASTER_PORT: '29500',
};

it("reads torchrun's variables", () => {
  expect(rankEnvironment(torchrun)).toEqual({
    ...{ rank: 3, worldSize: 4, localRank: 1, localWorldSize: 2, attempt: 0 },
    store: { host: 'host-a', port: 29500, isServer: false },
  });
  expect(rankEnvironment({})).toBeUndefined();
});

it('rank 0 serves the store, unless the agent of torchrun does', () => {
  const main = { ...torchrun, RANK: '0', LOCAL_RANK: '0' };
  expect(rankEnvironment(main)?.store).toMatchObject({ isServer: true });
  const agent = { ...main, TORCHELASTIC_USE_AGENT_STORE: 'True', TORCHELASTIC_RESTART_COUNT: '2' };
  expect(rankEnvironment(agent)).toMatchObject({ store: { isServer: false }, attempt: 2 });
});

it('needs no address with a file, and has a host of its own without a local rank', () => {
  expect(rankEnvironment({ RANK: '1', WORLD_SIZE: '2', IP_ADAPTER_STORE_FILE: '/s' })).toEqual({
    ...{ rank: 1, worldSize: 2, localRank: 0, localWorldSize: 1, attempt: 0 },
    store: { file: '/s' },
  });
});

it.each([
  [{ RANK: '0', WORLD_SIZE: '2' }, /has RANK, WORLD_SIZE but not MASTER_ADDR, MASTER_PORT/],
  [{ ...torchrun, RANK: '' }, /but not RANK\./],
  [{ ...torchrun, RANK: '4' }, /RANK is 4; it must be a whole number from 0 to 3/],
  [{ ...torchrun, WORLD_SIZE: 'two' }, /WORLD_SIZE is two; it must be/],
  [{ ...torchrun, MASTER_PORT: '0' }, /MASTER_PORT is 0/],
  [{ ...torchrun, LOCAL_RANK: '2' }, /LOCAL_RANK is 2/],
])('refuses %j', (env, message) => {
  expect(() => rankEnvironment(env)).toThrow(message);
});
