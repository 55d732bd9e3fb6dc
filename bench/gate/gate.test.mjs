// The gate's pure parts; `npm run bench:gate-test` tests the whole of it on real defects.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { metricsOf, textOf } from './baseline.mjs'
import { allocatedBytesIn, instructionsIn } from './callgrind.mjs'
import { table, worseIn } from './examine.mjs'
import { differences } from './fingerprint.mjs'
import { groupOf } from './measure.mjs'
import { callsIn } from './syscalls.mjs'
import { judge, median, ratioOf, timeVerdict, toleranceOf } from './verdict.mjs'

test('the median of an even number of values lies between the two in the middle', () => {
  assert.equal(median([3]), 3)
  assert.equal(median([9, 1, 5]), 5)
  assert.equal(median([1, 2, 4, 100]), 3)
})

test('what is always the same may grow by the least that its kind allows', () => {
  assert.equal(toleranceOf('instructions.x', [1000, 1000, 1000]), 0.005)
  assert.equal(toleranceOf('fsyncs_per_file.x', [0, 0]), 0.01)
})

test('a noisy count may grow by three interquartile ranges, and by no more than its kind allows', () => {
  assert.equal(toleranceOf('instructions.x', [998, 1000, 1002]), 0.006)
  assert.equal(toleranceOf('instructions.x', [900, 1000, 1100]), 0.02)
  assert.equal(toleranceOf('syscalls_per_1000_files.x', [980, 1000, 1020]), 0.06)
  assert.equal(toleranceOf('syscalls_per_gib.x', [1000, 1600, 2000]), 0.5)
})

test('a count is worse only past its tolerance', () => {
  const reference = { 'instructions.x': { value: 1000, tolerance: 0.01 } }
  const verdict = (value) => judge(reference, { 'instructions.x': [value] })[0].verdict
  assert.equal(verdict(1010), 'same')
  assert.equal(verdict(1011), 'worse')
  assert.equal(verdict(990), 'same')
  assert.equal(verdict(989), 'better')
})

test('of several measurements the median counts', () => {
  const reference = { 'syscalls_per_1000_files.x': { value: 1000, tolerance: 0.01 } }
  assert.deepEqual(worseIn(judge(reference, { 'syscalls_per_1000_files.x': [5000, 1000, 1001] })), [])
})

test('something that was never there turns red as soon as it is', () => {
  const reference = { 'fsyncs_per_file.x': { value: 0, tolerance: 0.01 } }
  assert.deepEqual(worseIn(judge(reference, { 'fsyncs_per_file.x': [0] })), [])
  assert.deepEqual(worseIn(judge(reference, { 'fsyncs_per_file.x': [0.01] })), ['fsyncs_per_file.x'])
})

test('a metric that only one side has is told and fails nothing', () => {
  const findings = judge({ 'size.old': { value: 5, tolerance: 0.01 } }, { 'size.new': [7] })
  assert.deepEqual(
    findings.map(({ name, verdict }) => `${name} ${verdict}`),
    ['size.new new', 'size.old unmeasured'],
  )
  assert.deepEqual(worseIn(findings), [])
  assert.match(table(findings), /size\.new +- +7 .*new\nsize\.old +5 +- .*unmeasured$/)
})

test('every metric belongs to what it is measured with', () => {
  assert.equal(groupOf('allocated_bytes.push_tree'), 'callgrind')
  assert.equal(groupOf('fsyncs_per_file.server.push'), 'syscalls')
  assert.equal(groupOf('syscalls_per_1000_requests.kv_get.mio'), 'syscalls')
  assert.equal(groupOf('size.addon'), 'sizes')
})

test('the ratio of times has an interval that holds it, and is the same for the same draws', () => {
  const pairs = [1.18, 1.2, 1.22, 1.19, 1.21].map((head) => ({ base: 1, head }))
  const draws = () => {
    let state = 1
    return () => {
      state = (state * 48_271) % 0x7fffffff
      return state / 0x7fffffff
    }
  }
  const { ratio, low, high } = ratioOf(pairs, draws())
  assert.equal(ratio, 1.2)
  assert.ok(1.18 <= low && low <= 1.2 && 1.2 <= high && high <= 1.22)
  assert.deepEqual(ratioOf(pairs, draws()), { ratio, low, high })
})

test('times are judged only if a build differs from itself by no more than 3 %', () => {
  const slower = { low: 1.04, high: 1.06 }
  assert.equal(timeVerdict({ low: 0.97, high: 1.03 }, slower), 'slower')
  assert.equal(timeVerdict({ low: 0.97, high: 1.031 }, slower), 'inconclusive')
  assert.equal(timeVerdict({ low: 0.969, high: 1 }, slower), 'inconclusive')
  assert.equal(timeVerdict({ low: 1, high: 1 }, { low: 0.9, high: 0.99 }), 'faster')
  assert.equal(timeVerdict({ low: 1, high: 1 }, { low: 0.99, high: 1.01 }), 'no difference found')
})

test('what valgrind says is read, and what it does not say is an error', () => {
  assert.equal(instructionsIn('==7== Events    : Ir\n==7== Collected : 1853854\n==7==\n'), 1_853_854)
  assert.equal(allocatedBytesIn('==7== \n==7== Total:     17,602,126 bytes in 9 blocks\n'), 17_602_126)
  assert.throws(() => instructionsIn('==7== killed'), /did not say/)
})

test('calls are counted once, and only those of threads that move files', () => {
  const trace = `9<strace> execve("/usr/bin/node", ["node"], 0x7fff /* 35 vars */) = 0
9<node> read(3, "", 0)                  = 0
12<xferd-io-0> epoll_wait(5, [], 1024, 0) = 0
12<xferd-io-0> pwrite64(9, "x"..., 1 <unfinished ...>
9<node> futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 0
12<xferd-io-0> <... pwrite64 resumed>)  = 1
12<xferd-io-0> pwrite64(9, "a(b) 9<xferd-io-0> c(", 1, 0) = 1
13<xferd-sweep> statx(4, "") = 0
14<xferd-client> fsync(3)               = 0
14<xferd-client> +++ exited with 0 +++
`
  assert.deepEqual(
    [...callsIn(trace)],
    [
      ['epoll_wait', 1],
      ['pwrite64', 2],
      ['fsync', 1],
    ],
  )
})

test('a machine is another if anything differs that is known here', () => {
  const accepted = { libc: '2.36', rustc: '1.85', valgrind: '3.19' }
  assert.deepEqual(differences(accepted, { libc: '2.36', rustc: '1.85', valgrind: undefined }), [])
  assert.deepEqual(differences(accepted, { libc: '2.37', rustc: '1.85', valgrind: '3.20' }), [
    'libc',
    'valgrind',
  ])
})

test('the baseline has one line for each metric, in order, with the reason', () => {
  const metrics = metricsOf({ 'size.b': [7], 'instructions.a': [10, 12, 11] })
  const text = textOf({ date: '2026-01-02', reason: 'because "so"', fingerprint: { cpu: 'x' }, metrics })
  assert.deepEqual(JSON.parse(text), {
    date: '2026-01-02',
    reason: 'because "so"',
    fingerprint: { cpu: 'x' },
    metrics: {
      'instructions.a': { value: 11, tolerance: 0.02 },
      'size.b': { value: 7, tolerance: 0.01 },
    },
  })
  const lines = text.split('\n').filter((line) => line.includes('tolerance'))
  assert.deepEqual(
    lines.map((line) => line.trim()),
    ['"instructions.a": { "value": 11, "tolerance": 0.02 },', '"size.b": { "value": 7, "tolerance": 0.01 }'],
  )
})
