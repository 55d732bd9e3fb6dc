import { join } from 'node:path'
import test from 'ava'
import { XferdError } from 'xferd'
import { REPOSITORY } from './fixture.js'

// Not a part of the package's face.
const codec: typeof import('../src/kv/codec.js') = require(join(REPOSITORY, 'dist/kv/codec.js'))
const { asBuffers, asStrings, encode, Push, Replies, Requests } = codec

function one(bytes: string | Buffer, texts = asStrings): unknown {
  const replies = new Replies(Buffer.from(bytes))
  const value = replies.next(texts)
  if (!replies.isAtEnd) throw new Error('there is more')
  return value
}

test('a command is an array of strings of any bytes', (t) => {
  const said = encode(['SET', 'ключ', Buffer.from([0, 13, 10, 255])], ['GET', ''])
  const expected = [
    Buffer.from('*3\r\n$3\r\nSET\r\n$8\r\nключ\r\n$4\r\n'),
    Buffer.from([0, 13, 10, 255]),
    Buffer.from('\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n'),
  ]
  t.deepEqual(said, Buffer.concat(expected))
})

test('numbers are said as Redis reads them', (t) => {
  for (const [number, word] of [
    [1, '1'],
    [-1.5, '-1.5'],
    [1e21, '1e+21'],
    [2n ** 63n - 1n, '9223372036854775807'],
    [Infinity, 'inf'],
    [-Infinity, '-inf'],
  ] as const)
    t.is(`${encode([number])}`, `*1\r\n$${word.length}\r\n${word}\r\n`)
})

test('commands are as long as they have to be', (t) => {
  const long = 'x'.repeat(1_000_000)
  const requests = new Requests()
  for (let i = 0; i < 100; i++) requests.push(['SET', `key:${i}`, i === 50 ? long : 'value'])
  t.is(requests.count, 100)
  t.is(requests.length, requests.bytes().length)
  const replies = new Replies(requests.bytes())
  for (let i = 0; i < 100; i++)
    t.deepEqual(replies.next(asStrings), ['SET', `key:${i}`, i === 50 ? long : 'value'])
  t.true(replies.isAtEnd)
})

test('what cannot be said is refused, and what was said before stays', (t) => {
  const requests = new Requests()
  requests.push(['PING'])
  const most = new Array(codec.ARGS_MAX).fill('')
  for (const args of [
    [],
    ['GET', undefined],
    ['GET', Number.NaN],
    ['GET', {}],
    ['GET', null],
    [...most, ''],
  ]) {
    t.throws(() => requests.push(args as string[]), { instanceOf: XferdError, code: 'INVALID_ARGUMENT' })
    t.is(`${requests.bytes()}`, '*1\r\n$4\r\nPING\r\n')
    t.is(requests.count, 1)
  }
  requests.push(most)
  t.is(requests.count, 2)
})

test('an argument has a longest length', (t) => {
  t.throws(() => encode(['SET', 'a', Buffer.alloc(codec.ARG_BYTES_MAX + 1)]), { code: 'INVALID_ARGUMENT' })
  t.is(encode([Buffer.alloc(codec.ARG_BYTES_MAX)]).length, codec.ARG_BYTES_MAX + 4 + 12 + 2)
})

test('every kind of value is read', (t) => {
  for (const [bytes, value] of [
    ['+OK\r\n', 'OK'],
    ['+\r\n', ''],
    ['$5\r\na\r\nbc\r\n', 'a\r\nbc'],
    ['$0\r\n\r\n', ''],
    [':0\r\n', 0],
    [':-9007199254740991\r\n', -9007199254740991],
    [':9007199254740992\r\n', 9007199254740992n],
    [':-9223372036854775808\r\n', -(2n ** 63n)],
    [':+7\r\n', 7],
    ['_\r\n', null],
    ['$-1\r\n', null],
    ['*-1\r\n', null],
    ['#t\r\n', true],
    ['#f\r\n', false],
    [',1.5\r\n', 1.5],
    [',10\r\n', 10],
    [',-1.5e-9\r\n', -1.5e-9],
    [',inf\r\n', Infinity],
    [',-inf\r\n', -Infinity],
    [',nan\r\n', Number.NaN],
    ['(3492890328409238509324850943850943825024385\r\n', 3492890328409238509324850943850943825024385n],
    ['(-1\r\n', -1n],
    ['=8\r\ntxt:word\r\n', 'word'],
    ['=4\r\nmkd:\r\n', ''],
    ['*0\r\n', []],
    ['*3\r\n:1\r\n*2\r\n+a\r\n_\r\n$1\r\nb\r\n', [1, ['a', null], 'b']],
    ['~2\r\n+a\r\n+b\r\n', new Set(['a', 'b'])],
    [
      '%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n',
      new Map<unknown, unknown>([
        ['a', 1],
        ['b', [true]],
      ]),
    ],
    ['>2\r\n+message\r\n+news\r\n', new Push(['message', 'news'])],
    ['|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n|0\r\n:2\r\n', [1, 2]],
  ] as const)
    t.deepEqual(one(bytes), value, JSON.stringify(bytes))
})

test('errors are values, with the first word as their code', (t) => {
  const wrongType = 'WRONGTYPE Operation against a key holding the wrong kind of value'
  for (const [bytes, code, message] of [
    ['-ERR unknown command\r\n', 'ERR', 'ERR unknown command'],
    [`-${wrongType}\r\n`, 'WRONGTYPE', wrongType],
    ['!21\r\nSYNTAX invalid syntax\r\n', 'SYNTAX', 'SYNTAX invalid syntax'],
    ['-no code at all\r\n', 'ERR', 'no code at all'],
    ['-OOM\r\n', 'OOM', 'OOM'],
  ] as const) {
    const error = one(bytes) as XferdError
    t.true(error instanceof XferdError)
    t.deepEqual(error.toJSON(), { code, message, retryable: false })
  }
  const [value, error] = one('*2\r\n:1\r\n-LOADING wait\r\n') as [number, XferdError]
  t.is(value, 1)
  t.true(error.retryable)
})

test('buffers are for strings of any bytes, and words stay strings', (t) => {
  const bytes = Buffer.concat([
    Buffer.from('*3\r\n$2\r\n'),
    Buffer.from([255, 0]),
    Buffer.from('\r\n+OK\r\n,2\r\n'),
  ])
  t.deepEqual(one(bytes, asBuffers), [Buffer.from([255, 0]), 'OK', 2])
})

test('a small string does not keep a large answer', (t) => {
  const answer = Buffer.from(`*2\r\n$1\r\na\r\n$9000\r\n${'x'.repeat(9000)}\r\n`)
  const [small, large] = one(answer, asBuffers) as [Buffer, Buffer]
  t.not(small.buffer, large.buffer)
  t.is(large.length, 9000)
})

test('what is cut off anywhere is refused', (t) => {
  const whole = '*3\r\n$5\r\nhello\r\n%1\r\n+a\r\n~1\r\n,1.5\r\n=5\r\ntxt:a\r\n'
  t.notThrows(() => one(whole))
  for (let end = 0; end < whole.length; end++)
    t.throws(() => one(whole.slice(0, end)), { instanceOf: XferdError, code: 'PROTOCOL' }, `${end}`)
})

test('what makes no sense is refused', (t) => {
  for (const bytes of [
    'HTTP/1.1 400 Bad Request\r\n',
    '$5\r\nhello!\r\n',
    '$-2\r\n',
    '$99999999999\r\n',
    '$1x\r\na\r\n',
    '$\r\n\r\n',
    '$1\r\na\rb',
    '*9999999999\r\n',
    '*2147483647\r\n:1\r\n',
    '%1073741824\r\n:1\r\n',
    '*1e3\r\n',
    ':\r\n',
    ':1.5\r\n',
    ':0x10\r\n',
    ':1\n',
    '_x\r\n',
    '#true\r\n',
    ',\r\n',
    ',1,5\r\n',
    ',0x1\r\n',
    `(${'9'.repeat(10_001)}\r\n`,
    '(1.5\r\n',
    '=3\r\ntxt\r\n',
    '!-1\r\n',
    '$?\r\n;0\r\n',
    '\r\n',
  ])
    t.throws(() => one(bytes), { instanceOf: XferdError, code: 'PROTOCOL' }, JSON.stringify(bytes))
})

test('values are in each other on so many levels and no more', (t) => {
  const nested = (depth: number): string => `${'*1\r\n'.repeat(depth)}:1\r\n`
  let value = one(nested(codec.REPLY_DEPTH_MAX))
  for (let depth = 0; depth < codec.REPLY_DEPTH_MAX; depth++) [value] = value as unknown[]
  t.is(value, 1)
  for (const bytes of [
    nested(codec.REPLY_DEPTH_MAX + 1),
    nested(1_000_000),
    `${'|0\r\n'.repeat(1_000_000)}:1\r\n`,
    `${'%1\r\n:1\r\n'.repeat(100_000)}:1\r\n`,
  ])
    t.throws(() => one(bytes), { code: 'PROTOCOL', message: /levels/ })
})
