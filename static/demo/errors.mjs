// Exceptions of the shop: some that keep coming, as one meets them, and as many others as are wanted.
import { DAY_MS, ENDPOINTS, HOUR_MS, isTroubled, MINUTE_MS, PAGES, releaseAt } from "./shop.mjs";

const AGENTS = [
  "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
];

const python = (type, message, frames) =>
  [
    "Traceback (most recent call last):",
    ...frames.map(([file, line, name, code]) => `  File "${file}", line ${line}, in ${name}\n    ${code}`),
    `${type}: ${message}`,
  ].join("\n");
const javascript = (type, message, frames) =>
  [`${type}: ${message}`, ...frames.map(([file, line, name]) => `    at ${name} (${file}:${line}:17)`)].join("\n");
const java = (type, message, frames) =>
  [`${type}: ${message}`, ...frames.map(([file, line, name]) => `\tat ${name}(${file}:${line})`)].join("\n");
const go = (_type, message, frames) =>
  [
    `panic: ${message}`,
    "",
    "goroutine 41 [running]:",
    ...frames.map(([file, line, name]) => `${name}()\n\t${file}:${line} +0x1d`),
  ].join("\n");

const SITE = "/usr/local/lib/python3.12/site-packages";
const STARLETTE = [
  [`${SITE}/starlette/middleware/errors.py`, 165, "__call__", "await self.app(scope, receive, _send)"],
  [`${SITE}/fastapi/routing.py`, 302, "app", "raw_response = await run_endpoint_function("],
];
const REACT = [
  ["https://shop.example/node_modules/react-dom/client.js", 16_214, "invokeGuardedCallback"],
  ["https://shop.example/node_modules/react-dom/client.js", 20_011, "dispatchEvent"],
];

/** Groups that keep coming: how often in an hour, and from when until when before now. */
const KNOWN = [
  {
    project: "shop",
    type: "PaymentTimeout",
    message: "the payment provider did not answer within 8.0 s",
    hourly: 46,
    when: isTroubled,
    level: "critical",
    language: python,
    endpoint: 5,
    frames: [
      ...STARLETTE,
      ["/app/shop/checkout/pay.py", 88, "pay", "receipt = await provider.charge(order, token)"],
      ["/app/shop/payments/provider.py", 141, "charge", "raise PaymentTimeout(self.patience_s)"],
    ],
  },
  {
    project: "shop",
    type: "httpx.ReadTimeout",
    message: "",
    hourly: 21,
    when: isTroubled,
    language: python,
    endpoint: 5,
    frames: [
      ["/app/shop/payments/provider.py", 133, "charge", "answer = await self.client.post(self.url, json=order)"],
      [`${SITE}/httpx/_client.py`, 1_859, "post", "return await self.request("],
      [`${SITE}/httpx/_transports/default.py`, 118, "map_httpcore_exceptions", "raise mapped_exc(message) from exc"],
    ],
  },
  {
    project: "shop",
    type: "KeyError",
    message: "'voucher'",
    hourly: 3,
    when: (ago) => ago < 7.4 * DAY_MS,
    language: python,
    endpoint: 3,
    frames: [
      ...STARLETTE,
      ["/app/shop/cart/views.py", 52, "show", "total = prices.total(cart)"],
      ["/app/shop/cart/prices.py", 27, "total", 'return amount - vouchers[cart["voucher"]]'],
    ],
  },
  {
    project: "shop",
    type: "sqlalchemy.exc.OperationalError",
    message: "(psycopg.OperationalError) connection failed: FATAL: sorry, too many clients already",
    hourly: 1.2,
    when: (ago) => ago < 20 * DAY_MS && ago > 3 * HOUR_MS,
    level: "critical",
    language: python,
    endpoint: 2,
    frames: [
      ["/app/shop/search/views.py", 31, "search", "rows = session.execute(query).all()"],
      [`${SITE}/sqlalchemy/orm/session.py`, 2_351, "execute", "return self._execute_internal("],
    ],
  },
  {
    project: "shop",
    type: "ValueError",
    message: "quantity must be at least 1, not 0",
    hourly: 0.7,
    when: () => true,
    level: "warning",
    language: python,
    endpoint: 3,
    frames: [
      ...STARLETTE,
      ["/app/shop/cart/views.py", 71, "change", "cart.set(item, quantity)"],
      ["/app/shop/cart/model.py", 19, "set", 'raise ValueError(f"quantity must be at least 1, not {quantity}")'],
    ],
  },
  {
    project: "shop",
    type: "UnicodeDecodeError",
    message: "'utf-8' codec can't decode byte 0xe9 in position 14: invalid continuation byte",
    hourly: 0.2,
    when: (ago) => ago > 8 * DAY_MS,
    isResolved: true,
    language: python,
    endpoint: 2,
    frames: [["/app/shop/search/query.py", 12, "parse", 'text = raw.decode("utf-8")']],
  },
  {
    project: "worker",
    type: "celery.exceptions.SoftTimeLimitExceeded",
    message: "SoftTimeLimitExceeded()",
    hourly: 1.5,
    when: (ago) => ago < 9 * DAY_MS,
    language: python,
    frames: [
      [`${SITE}/celery/app/trace.py`, 453, "trace_task", "R = retval = fun(*args, **kwargs)"],
      ["/app/worker/invoices.py", 64, "render", "pdf = html.write_pdf()"],
    ],
  },
  {
    project: "worker",
    type: "smtplib.SMTPServerDisconnected",
    message: "Connection unexpectedly closed",
    hourly: 0.6,
    when: () => true,
    language: python,
    frames: [
      ["/app/worker/mail.py", 40, "send", "server.send_message(message)"],
      [
        "/usr/lib/python3.12/smtplib.py",
        405,
        "getreply",
        'raise SMTPServerDisconnected("Connection unexpectedly closed")',
      ],
    ],
  },
  {
    project: "worker",
    type: "FileNotFoundError",
    message: "[Errno 2] No such file or directory: '/var/spool/invoices/2026-11.pdf'",
    hourly: 0.1,
    when: (ago) => ago < 2 * DAY_MS,
    environment: "staging",
    language: python,
    frames: [["/app/worker/invoices.py", 91, "attach", 'with open(path, "rb") as file:']],
  },
  {
    project: "storefront",
    type: "TypeError",
    message: "Cannot read properties of undefined (reading 'price')",
    hourly: 9,
    when: (ago) => ago < 3.2 * HOUR_MS,
    language: javascript,
    page: 1,
    frames: [["src/product/Price.tsx", 23, "Price"], ["src/product/Product.tsx", 61, "Product"], ...REACT],
  },
  {
    project: "storefront",
    type: "ChunkLoadError",
    message: "Loading chunk 417 failed.",
    hourly: 2.4,
    when: () => true,
    language: javascript,
    page: 4,
    frames: [
      ["webpack/bootstrap", 148, "__webpack_require__.f.j"],
      ["src/routes.tsx", 12, "loadCart"],
    ],
  },
  {
    project: "storefront",
    type: "NetworkError",
    message: "POST /checkout/pay answered 504",
    hourly: 17,
    when: isTroubled,
    language: javascript,
    page: 5,
    frames: [
      ["src/checkout/api.ts", 37, "post"],
      ["src/checkout/Pay.tsx", 80, "submit"],
    ],
  },
  {
    project: "storefront",
    type: "QuotaExceededError",
    message: "The quota has been exceeded.",
    hourly: 0.3,
    when: () => true,
    level: "warning",
    language: javascript,
    page: 0,
    frames: [
      ["src/basket/store.ts", 18, "save"],
      ["src/basket/Basket.tsx", 44, "onChange"],
    ],
  },
  {
    project: "search",
    type: "panic",
    message: "runtime error: index out of range [3] with length 3",
    hourly: 0.4,
    when: (ago) => ago < 12 * DAY_MS,
    level: "critical",
    language: go,
    frames: [
      ["/src/search/rank.go", 118, "main.rank"],
      ["/src/search/http.go", 52, "main.(*server).query"],
      ["/usr/local/go/src/net/http/server.go", 2_294, "net/http.HandlerFunc.ServeHTTP"],
    ],
  },
  {
    project: "billing",
    type: "java.lang.IllegalStateException",
    message: "invoice 20261103-118 is closed",
    hourly: 0.5,
    when: () => true,
    language: java,
    frames: [
      ["Invoice.java", 214, "com.example.billing.Invoice.add"],
      ["InvoiceService.java", 77, "com.example.billing.InvoiceService.book"],
      ["DispatcherServlet.java", 1_089, "org.springframework.web.servlet.DispatcherServlet.doDispatch"],
    ],
  },
  {
    project: "billing",
    type: "java.sql.SQLTransientConnectionException",
    message: "HikariPool-1 - Connection is not available, request timed out after 30000ms.",
    hourly: 0.3,
    when: (ago) => ago > 4 * DAY_MS,
    isResolved: true,
    language: java,
    frames: [
      ["HikariPool.java", 696, "com.zaxxer.hikari.pool.HikariPool.createTimeoutException"],
      ["InvoiceRepository.java", 41, "com.example.billing.InvoiceRepository.open"],
    ],
  },
];

const OTHER_TYPES = [
  "ValueError",
  "KeyError",
  "TypeError",
  "AttributeError",
  "RuntimeError",
  "LookupError",
  "OSError",
  "AssertionError",
];
const OTHER_PARTS = [
  "cart",
  "search",
  "stock",
  "prices",
  "account",
  "mail",
  "import",
  "export",
  "media",
  "orders",
  "shipping",
  "taxes",
];

/**
 * Reports in the order of their time, as `POST /api/errors` takes them.
 *
 * @param chance from dice.mjs
 * @param {{ now: number, days: number, groups: number }} wanted groups in all, at least as many as there are known ones
 */
export function reports(chance, { now, days, groups }) {
  const found = [];
  for (const known of KNOWN) {
    const span = days * DAY_MS;
    let ago = span;
    while (ago > 0) {
      ago -= (-Math.log(1 - chance.next()) / known.hourly) * HOUR_MS;
      if (ago > 0 && known.when(ago)) {
        found.push(report(chance, known, now, ago));
      }
    }
  }
  for (let group = KNOWN.length; group < groups; group++) {
    const [type, part] = [chance.one(OTHER_TYPES), chance.one(OTHER_PARTS)];
    const frames = [[`/app/legacy/${part}/${chance.one(OTHER_PARTS)}.py`, 1 + group, "run", "return self.step(item)"]];
    const other = {
      project: chance.one(["legacy", "shop", "worker"]),
      type,
      message: `${part} ${group} cannot be processed`,
      language: python,
      frames,
    };
    found.push(report(chance, other, now, days * DAY_MS * chance.next() ** 2 + 4 * HOUR_MS));
  }
  return found.sort((one, other) => one.timestamp.localeCompare(other.timestamp));
}

/** Which groups somebody has resolved. */
export const RESOLVED = KNOWN.filter(({ isResolved }) => isResolved).map(({ type }) => type);

function report(chance, { project, type, message, language, frames, environment, level, endpoint, page }, now, ago) {
  const at = now - ago;
  const browser = language === javascript;
  const user = `u-${1_000 + chance.whole(4_000)}`;
  const common = {
    project,
    exception_type: type,
    message,
    traceback: language(type, message, frames),
    environment:
      environment ??
      chance.weighed([
        [12, "prod"],
        [1, "staging"],
      ]),
    release: releaseAt(ago),
    level: level ?? "error",
    timestamp: new Date(at).toISOString(),
    user_id: user,
  };
  if (browser) {
    const url = `https://shop.example${PAGES[page]}`;
    const trail = [
      { category: "navigation", message: `/ → ${PAGES[page]}`, timestamp: new Date(at - 9_000).toISOString() },
      { category: "click", message: "button.add", timestamp: new Date(at - 2_100).toISOString() },
      { category: "fetch", message: "GET /api/stock 200", timestamp: new Date(at - 900).toISOString() },
    ];
    const extra = {
      user_agent: chance.one(AGENTS),
      session_id: chance.hexadecimal(12),
      context: { level: "error", breadcrumbs: trail },
    };
    return { ...common, request_method: "BROWSER", request_url: url, extra };
  }
  const request =
    endpoint === undefined
      ? {}
      : {
          request_url: `https://shop.example${ENDPOINTS[endpoint].path}`,
          request_method: endpoint > 3 ? "POST" : "GET",
          request_headers: { host: "shop.example", accept: "application/json", "user-agent": chance.one(AGENTS) },
        };
  return {
    ...common,
    ...request,
    extra: {
      host: `app-${1 + chance.whole(2)}`,
      uptime_s: Math.round((ago % DAY_MS) / 1_000),
      minute: Math.floor(at / MINUTE_MS) % 60,
    },
  };
}
