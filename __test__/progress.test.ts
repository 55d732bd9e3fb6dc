import { join } from 'node:path'
import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { REPOSITORY } from './fixture.js'

const { Transfer } = require(join(REPOSITORY, 'dist/transfer.js')) as typeof import('../src/transfer.js')

/** The parts of the addon that a transfer uses, which never ends by itself. */
function endless(): { samples: number; transfer: InstanceType<typeof Transfer>; end: () => void } {
  let end = (): void => {}
  const completion = new Promise<never>((_, reject) => {
    end = () => reject(new Error('over'))
  })
  const counted = {
    samples: 0,
    progress() {
      this.samples++
      return { bytes: this.samples, totalBytes: 0, files: 0, totalFiles: 0, totalKnown: false }
    },
  }
  const calls = {
    call(begin: () => number) {
      begin()
      return completion
    },
  }
  const transfer = new Transfer(counted as never, calls as never, () => 1)
  return {
    transfer,
    end,
    get samples() {
      return counted.samples
    },
  }
}

test.serial('progress is sampled every 100 ms and no more often, however many watch', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const under = endless()
  const seen: number[][] = [[], [], []]
  const watchers = seen.map(async (bytes) => {
    for await (const progress of under.transfer) bytes.push(progress.bytes)
  })
  for (let elapsedMs = 0; elapsedMs < 900; elapsedMs += 50) {
    await setImmediate()
    mock.timers.tick(50)
  }
  await setImmediate()
  t.is(under.samples, 9)
  const all = Array.from({ length: 9 }, (_, index) => index + 1)
  t.deepEqual(seen, [all, all, all])
  under.end()
  for (const watcher of watchers) await t.throwsAsync(watcher, { message: 'over' })
})

test.serial('a transfer that nobody watches is not sampled', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const under = endless()
  await setImmediate()
  mock.timers.tick(1000)
  await setImmediate()
  t.is(under.samples, 0)
  under.end()
  await t.throwsAsync(async () => under.transfer, { message: 'over' })
})
