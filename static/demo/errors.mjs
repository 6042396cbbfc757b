// Error reports of the shop: realistic groups that recur, and any number of synthetic groups.
import { DAY_MS, ENDPOINTS, HOUR_MS, isPaymentOutage, MINUTE_MS, PAGES, releaseAt } from "./shop.mjs";

const USER_AGENTS = [
  "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
];

const pythonTrace = (type, message, frames) =>
  [
    "Traceback (most recent call last):",
    ...frames.map(([file, line, name, code]) => `  File "${file}", line ${line}, in ${name}\n    ${code}`),
    `${type}: ${message}`,
  ].join("\n");
const javascriptTrace = (type, message, frames) =>
  [`${type}: ${message}`, ...frames.map(([file, line, name]) => `    at ${name} (${file}:${line}:17)`)].join("\n");
const javaTrace = (type, message, frames) =>
  [`${type}: ${message}`, ...frames.map(([file, line, name]) => `\tat ${name}(${file}:${line})`)].join("\n");
const goTrace = (_type, message, frames) =>
  [
    `panic: ${message}`,
    "",
    "goroutine 41 [running]:",
    ...frames.map(([file, line, name]) => `${name}()\n\t${file}:${line} +0x1d`),
  ].join("\n");

const SITE_PACKAGES = "/usr/local/lib/python3.12/site-packages";
const STARLETTE = [
  [`${SITE_PACKAGES}/starlette/middleware/errors.py`, 165, "__call__", "await self.app(scope, receive, _send)"],
  [`${SITE_PACKAGES}/fastapi/routing.py`, 302, "app", "raw_response = await run_endpoint_function("],
];
const REACT = [
  ["https://shop.example/node_modules/react-dom/client.js", 16_214, "invokeGuardedCallback"],
  ["https://shop.example/node_modules/react-dom/client.js", 20_011, "dispatchEvent"],
];

/**
 * Recurring groups. `perHour` is the mean number of reports per hour. `isActive` takes an age in milliseconds and
 * returns whether the error occurred then. `endpoint` and `page` are indexes into `ENDPOINTS` and `PAGES`.
 */
const RECURRING_GROUPS = [
  {
    project: "shop",
    type: "PaymentTimeout",
    message: "the payment provider did not answer within 8.0 s",
    perHour: 46,
    isActive: isPaymentOutage,
    level: "critical",
    formatTrace: pythonTrace,
    endpoint: 5,
    frames: [
      ...STARLETTE,
      ["/app/shop/checkout/pay.py", 88, "pay", "receipt = await provider.charge(order, token)"],
      ["/app/shop/payments/provider.py", 141, "charge", "raise PaymentTimeout(self.timeout_s)"],
    ],
  },
  {
    project: "shop",
    type: "httpx.ReadTimeout",
    message: "",
    perHour: 21,
    isActive: isPaymentOutage,
    formatTrace: pythonTrace,
    endpoint: 5,
    frames: [
      ["/app/shop/payments/provider.py", 133, "charge", "response = await self.client.post(self.url, json=order)"],
      [`${SITE_PACKAGES}/httpx/_client.py`, 1_859, "post", "return await self.request("],
      [
        `${SITE_PACKAGES}/httpx/_transports/default.py`,
        118,
        "map_httpcore_exceptions",
        "raise mapped_exc(message) from exc",
      ],
    ],
  },
  {
    project: "shop",
    type: "KeyError",
    message: "'voucher'",
    perHour: 3,
    isActive: (ageMs) => ageMs < 7.4 * DAY_MS,
    formatTrace: pythonTrace,
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
    perHour: 1.2,
    isActive: (ageMs) => ageMs < 20 * DAY_MS && ageMs > 3 * HOUR_MS,
    level: "critical",
    formatTrace: pythonTrace,
    endpoint: 2,
    frames: [
      ["/app/shop/search/views.py", 31, "search", "rows = session.execute(query).all()"],
      [`${SITE_PACKAGES}/sqlalchemy/orm/session.py`, 2_351, "execute", "return self._execute_internal("],
    ],
  },
  {
    project: "shop",
    type: "ValueError",
    message: "quantity must be at least 1, not 0",
    perHour: 0.7,
    isActive: () => true,
    level: "warning",
    formatTrace: pythonTrace,
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
    perHour: 0.2,
    isActive: (ageMs) => ageMs > 8 * DAY_MS,
    isResolved: true,
    formatTrace: pythonTrace,
    endpoint: 2,
    frames: [["/app/shop/search/query.py", 12, "parse", 'text = raw.decode("utf-8")']],
  },
  {
    project: "worker",
    type: "celery.exceptions.SoftTimeLimitExceeded",
    message: "SoftTimeLimitExceeded()",
    perHour: 1.5,
    isActive: (ageMs) => ageMs < 9 * DAY_MS,
    formatTrace: pythonTrace,
    frames: [
      [`${SITE_PACKAGES}/celery/app/trace.py`, 453, "trace_task", "R = retval = fun(*args, **kwargs)"],
      ["/app/worker/invoices.py", 64, "render", "pdf = html.write_pdf()"],
    ],
  },
  {
    project: "worker",
    type: "smtplib.SMTPServerDisconnected",
    message: "Connection unexpectedly closed",
    perHour: 0.6,
    isActive: () => true,
    formatTrace: pythonTrace,
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
    perHour: 0.1,
    isActive: (ageMs) => ageMs < 2 * DAY_MS,
    environment: "staging",
    formatTrace: pythonTrace,
    frames: [["/app/worker/invoices.py", 91, "attach", 'with open(path, "rb") as file:']],
  },
  {
    project: "storefront",
    type: "TypeError",
    message: "Cannot read properties of undefined (reading 'price')",
    perHour: 9,
    isActive: (ageMs) => ageMs < 3.2 * HOUR_MS,
    formatTrace: javascriptTrace,
    page: 1,
    frames: [["src/product/Price.tsx", 23, "Price"], ["src/product/Product.tsx", 61, "Product"], ...REACT],
  },
  {
    project: "storefront",
    type: "ChunkLoadError",
    message: "Loading chunk 417 failed.",
    perHour: 2.4,
    isActive: () => true,
    formatTrace: javascriptTrace,
    page: 4,
    frames: [
      ["webpack/bootstrap", 148, "__webpack_require__.f.j"],
      ["src/routes.tsx", 12, "loadCart"],
    ],
  },
  {
    project: "storefront",
    type: "NetworkError",
    message: "POST /checkout/pay failed with status 504",
    perHour: 17,
    isActive: isPaymentOutage,
    formatTrace: javascriptTrace,
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
    perHour: 0.3,
    isActive: () => true,
    level: "warning",
    formatTrace: javascriptTrace,
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
    perHour: 0.4,
    isActive: (ageMs) => ageMs < 12 * DAY_MS,
    level: "critical",
    formatTrace: goTrace,
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
    perHour: 0.5,
    isActive: () => true,
    formatTrace: javaTrace,
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
    perHour: 0.3,
    isActive: (ageMs) => ageMs > 4 * DAY_MS,
    isResolved: true,
    formatTrace: javaTrace,
    frames: [
      ["HikariPool.java", 696, "com.zaxxer.hikari.pool.HikariPool.createTimeoutException"],
      ["InvoiceRepository.java", 41, "com.example.billing.InvoiceRepository.open"],
    ],
  },
];

const SYNTHETIC_TYPES = [
  "ValueError",
  "KeyError",
  "TypeError",
  "AttributeError",
  "RuntimeError",
  "LookupError",
  "OSError",
  "AssertionError",
];
const SYNTHETIC_MODULES = [
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

/** Maximum age of a report. The tracker counts those that are older than 30 days when they arrive. */
const REPORT_AGE_MAX_MS = 30 * DAY_MS - HOUR_MS;

/**
 * Generates reports for `POST /api/errors`, in chronological order.
 *
 * @param {ReturnType<typeof import("./rng.mjs").createRng>} rng
 * @param {{ now: number, days: number, groups: number }} size `now` is a Unix time in milliseconds, `groups` the total
 *   number of groups; recurring groups are always included
 */
export function generateReports(rng, { now, days, groups }) {
  const reports = [];
  const maxAgeMs = Math.min(days * DAY_MS, REPORT_AGE_MAX_MS);
  for (const group of RECURRING_GROUPS) {
    let ageMs = maxAgeMs;
    while (ageMs > 0) {
      // Exponentially distributed intervals make a Poisson process.
      ageMs -= (-Math.log(1 - rng.next()) / group.perHour) * HOUR_MS;
      if (ageMs > 0 && group.isActive(ageMs)) {
        reports.push(createReport(rng, group, now, ageMs));
      }
    }
  }
  for (let number = RECURRING_GROUPS.length; number < groups; number++) {
    const [type, module] = [rng.pick(SYNTHETIC_TYPES), rng.pick(SYNTHETIC_MODULES)];
    const frames = [
      [`/app/legacy/${module}/${rng.pick(SYNTHETIC_MODULES)}.py`, 1 + number, "run", "return self.step(item)"],
    ];
    const group = {
      project: rng.pick(["legacy", "shop", "worker"]),
      type,
      message: `${module} ${number} cannot be processed`,
      formatTrace: pythonTrace,
      frames,
    };
    reports.push(createReport(rng, group, now, 4 * HOUR_MS + (maxAgeMs - 4 * HOUR_MS) * rng.next() ** 2));
  }
  return reports.sort((a, b) => a.timestamp.localeCompare(b.timestamp));
}

/** Exception types of the groups that are resolved in the scenario. */
export const RESOLVED_TYPES = RECURRING_GROUPS.filter(({ isResolved }) => isResolved).map(({ type }) => type);

function createReport(
  rng,
  { project, type, message, formatTrace, frames, environment, level, endpoint, page },
  now,
  ageMs,
) {
  const timestampMs = now - ageMs;
  const userId = `u-${1_000 + rng.integer(4_000)}`;
  const common = {
    project,
    exception_type: type,
    message,
    traceback: formatTrace(type, message, frames),
    environment:
      environment ??
      rng.pickWeighted([
        [12, "prod"],
        [1, "staging"],
      ]),
    release: releaseAt(ageMs),
    level: level ?? "error",
    timestamp: new Date(timestampMs).toISOString(),
    user_id: userId,
  };
  if (formatTrace === javascriptTrace) {
    const url = `https://shop.example${PAGES[page]}`;
    const breadcrumbs = [
      { category: "navigation", message: `/ → ${PAGES[page]}`, timestamp: new Date(timestampMs - 9_000).toISOString() },
      { category: "click", message: "button.add", timestamp: new Date(timestampMs - 2_100).toISOString() },
      { category: "fetch", message: "GET /api/stock 200", timestamp: new Date(timestampMs - 900).toISOString() },
    ];
    const extra = {
      user_agent: rng.pick(USER_AGENTS),
      session_id: rng.hex(12),
      context: { level: "error", breadcrumbs },
    };
    return { ...common, request_method: "BROWSER", request_url: url, extra };
  }
  const request =
    endpoint === undefined
      ? {}
      : {
          request_url: `https://shop.example${ENDPOINTS[endpoint].path}`,
          request_method: endpoint > 3 ? "POST" : "GET",
          request_headers: { host: "shop.example", accept: "application/json", "user-agent": rng.pick(USER_AGENTS) },
        };
  return {
    ...common,
    ...request,
    extra: {
      host: `app-${1 + rng.integer(2)}`,
      uptime_s: Math.round((ageMs % DAY_MS) / 1_000),
      minute: Math.floor(timestampMs / MINUTE_MS) % 60,
    },
  };
}
