// words.js: what the page says, in English and Russian.

const en = {
  skip: "Skip to the content", views: "Views", queues: "Queues", failures: "Failures", schedules: "Schedules", processes: "Processes",
  mails: "Mails",
  all_well: "All is well", problems: "{n} to look at", unreachable: "pgmqd does not answer", starting: "Starting",
  token: "Token", token_on: "Token ✓", theme_light: "Light colours", theme_dark: "Dark colours", theme_auto: "Colours of the system",
  settled_chart: "Settled per minute", latency_chart: "From due to start", filter: "Find a queue",
  queue: "Queue", state: "State", last_minutes: "Last 10 minutes", per_minute: "Per minute", waiting: "Waiting", in_flight: "In flight",
  oldest: "Oldest due", latency: "p50 / p99", dead: "Dead", details: "Details", tile_rate: "Settled", tile_waiting: "Waiting",
  tile_oldest: "Oldest due", tile_latency: "Start latency, p50 / p99", tile_dead: "Dead letters", tile_flight: "In flight",
  sub_delayed: "{n} delayed", sub_now: "nothing is late", sub_failures: "look at failures", sub_none: "none",
  sub_minute: "in the last minute",
  done: "done", retried: "retried", failed: "dead-lettered", p50: "p50", p99: "p99", now: "now", minutes_ago: "{n} min ago",
  nothing_yet: "Nothing in 10 minutes",
  state_ready: "ready", state_starting: "starting", state_connecting: "connecting", state_paused: "paused", state_draining: "draining",
  state_restarting: "restarting", state_crash_loop: "crash loop", state_config_error: "wrong settings", state_stopped: "stopped",
  state_none: "not served here", state_silent: "no sign of life",
  no_queues: "There are no queues yet: pgmqd migrate makes the first ones.", no_match: "No queue has that in its name.",
  loading: "One moment …",
  email_provider_circuit: "{value}", email_sent_total: "Sent by {value}", email_refused_total: "Refused by {value}", circuit_0: "in use",
  circuit_1: "left alone for a while", circuit_2: "being tried again",
  next_due: "Next due", restarts: "Restarts", lease_lost: "Leases lost", released: "Given back", last_error: "Last error",
  plugin: "Plugin", not_attached: "An enqueue does not wake this queue: SELECT pgmqd.attach_queue('{queue}')",
  pause: "Pause", resume: "Resume", paused_ok: "{queue} pauses", resumed_ok: "{queue} goes on", pause_title: "Pause {queue}?",
  pause_text: "Messages wait until it goes on. What is in flight is finished.", why: "Why (others will read it)",
  show_dead: "Dead letters", failures_title: "Failures, grouped by reason", no_failures: "No dead letters: nothing failed for good.",
  show_letters: "Show letters",
  first_last: "{first} – {last}", once: "{last}", dead_letters: "Dead letters", letters_of: "Dead letters of {queue}", reason: "Reason",
  reason_filter: "Reason holds …", redrive: "Put back", purge: "Throw away", select_all: "Select all that are shown",
  select_one: "Select dead letter {id}",
  id: "Id", died: "Died", class: "Class", attempts: "Attempts", body: "Body", headers: "Headers", body_of: "Dead letter {id} of {queue}",
  no_letters: "No dead letters here.", more: "Older ones",
  redrive_title: "Put {n} back into {queue}?", redrive_text: "Their attempts start anew; their history goes with them.",
  purge_title: "Throw {n} away for good?", purge_text: "They are deleted from the database. There is no way back.",
  redriven: "{n} put back", purged: "{n} thrown away", original_id: "Original id", first_enqueued: "First enqueued",
  redrives: "Put back before",
  name: "Name", when: "When", runner: "Runs in", last_run: "Last run", last_runs: "Last runs", no_schedules: "There are no schedules.",
  disabled: "switched off", taken_over: "taken over: pg_cron's launcher is dead", run_ok: "ok", run_failed: "failed",
  run_skipped: "skipped", never: "not yet",
  process: "Process", pid: "Pid", uptime: "Runs for", stall: "Longest callback", role_listener: "listener", role_control: "control",
  role_worker: "worker", role_supervisor: "supervisor",
  mails_title: "Mail templates with sample data", preview: "Preview", template: "Template", language: "Language", screen: "Screen",
  light: "Light", dark: "Dark", desktop: "Desktop", phone: "Phone", plain_text: "Plain text", subject: "Subject",
  no_templates: "There are no templates.",
  metrics: "Metrics", token_title: "The token of this pgmqd",
  token_text: "Changes, and the bodies of messages, ask for it. It is http_token in the settings, and stays in this tab only.",
  token_label: "Token", token_save: "Use it", token_forget: "Forget it", token_wrong: "This is not the token of this pgmqd.",
  token_unset: "This pgmqd has no token: set http_token, or PGMQD_HTTP_TOKEN in its environment.", cancel: "Cancel", close: "Close",
  deaf: "Notifications do not arrive (a transaction pooler in between?): the queues are polled.",
  db_down: "The database cannot be asked now: depths are as of {time}.", db_down_new: "The database cannot be asked now.",
  process_down: "{name} is not running ({state}).", process_silent: "{name} gives no sign of life.",
  process_unconnected: "{name} is not connected to the database.", crash: "{name} died again and again; it is tried now and then.",
  config: "{name} cannot work with its settings.", needs_token: "This pgmqd asks for its token.",
  give_token: "Enter the token", s: "s", ms: "ms", min: "min", h: "h", d: "d", version: "pgmqd {version}, running for {uptime}",
  error: "It did not work: {message}",
};

const ru = {
  skip: "К содержанию", views: "Разделы", queues: "Очереди", failures: "Сбои", schedules: "Расписания", processes: "Процессы",
  mails: "Письма",
  all_well: "Всё в порядке", problems: "Требуют внимания: {n}", unreachable: "pgmqd не отвечает", starting: "Запускается",
  token: "Токен", token_on: "Токен ✓", theme_light: "Светлая тема", theme_dark: "Тёмная тема", theme_auto: "Тема системы",
  settled_chart: "Обработано в минуту", latency_chart: "Ожидание до начала", filter: "Найти очередь",
  queue: "Очередь", state: "Состояние", last_minutes: "Последние 10 минут", per_minute: "В минуту", waiting: "Ждут", in_flight: "В работе",
  oldest: "Самое старое", latency: "p50 / p99", dead: "Не доставлены", details: "Подробности", tile_rate: "Обработано",
  tile_waiting: "Ждут",
  tile_oldest: "Самое старое", tile_latency: "До начала, p50 / p99", tile_dead: "Недоставленные", tile_flight: "В работе",
  sub_delayed: "отложены: {n}", sub_now: "ничего не опаздывает", sub_failures: "посмотреть сбои", sub_none: "нет", sub_minute: "за минуту",
  done: "выполнено", retried: "повтор", failed: "не доставлено", p50: "p50", p99: "p99", now: "сейчас", minutes_ago: "{n} мин назад",
  nothing_yet: "За 10 минут ничего",
  state_ready: "работает", state_starting: "запускается", state_connecting: "подключается", state_paused: "на паузе",
  state_draining: "завершает",
  state_restarting: "перезапуск", state_crash_loop: "падает снова и снова", state_config_error: "ошибка настроек",
  state_stopped: "остановлен", state_none: "здесь не обслуживается", state_silent: "не отвечает",
  no_queues: "Очередей пока нет: первые создаст pgmqd migrate.", no_match: "Таких очередей нет.", loading: "Минуту …",
  email_provider_circuit: "{value}", email_sent_total: "Отправлено через {value}", email_refused_total: "Отказов {value}",
  circuit_0: "используется", circuit_1: "пока не используется", circuit_2: "проверяется",
  next_due: "Следующее", restarts: "Перезапуски", lease_lost: "Потеряно аренд", released: "Возвращено", last_error: "Последняя ошибка",
  plugin: "Плагин", not_attached: "Новое сообщение не будит эту очередь: SELECT pgmqd.attach_queue('{queue}')",
  pause: "Пауза", resume: "Продолжить", paused_ok: "{queue}: пауза", resumed_ok: "{queue}: работа продолжена",
  pause_title: "Поставить {queue} на паузу?", pause_text: "Сообщения подождут. Начатое будет закончено.",
  why: "Почему (это увидят другие)",
  show_dead: "Недоставленные", failures_title: "Сбои по причинам", no_failures: "Недоставленных сообщений нет.",
  show_letters: "Показать сообщения",
  first_last: "{first} – {last}", once: "{last}", dead_letters: "Недоставленные сообщения",
  letters_of: "Недоставленные сообщения: {queue}", reason: "Причина", reason_filter: "В причине есть …", redrive: "Вернуть в очередь",
  purge: "Удалить", select_all: "Выбрать все показанные", select_one: "Выбрать сообщение {id}",
  id: "Номер", died: "Когда", class: "Класс", attempts: "Попытки", body: "Содержимое", headers: "Заголовки",
  body_of: "Сообщение {id} из {queue}", no_letters: "Недоставленных сообщений нет.", more: "Более старые",
  redrive_title: "Вернуть в {queue}: {n}?", redrive_text: "Попытки начнутся заново; история сохранится.",
  purge_title: "Удалить навсегда: {n}?", purge_text: "Сообщения будут удалены из базы данных. Вернуть их нельзя.",
  redriven: "Возвращено: {n}", purged: "Удалено: {n}", original_id: "Первый номер", first_enqueued: "Поставлено в очередь",
  redrives: "Уже возвращалось",
  name: "Название", when: "Когда", runner: "Кто запускает", last_run: "Последний запуск", last_runs: "Последние запуски",
  no_schedules: "Расписаний нет.", disabled: "выключено", taken_over: "перехвачено: pg_cron не работает", run_ok: "успешно",
  run_failed: "сбой", run_skipped: "пропущено", never: "ещё не было",
  process: "Процесс", pid: "Pid", uptime: "Работает", stall: "Самый долгий вызов", role_listener: "слушатель", role_control: "управление",
  role_worker: "обработчик", role_supervisor: "супервизор",
  mails_title: "Шаблоны писем с примерами данных", preview: "Просмотр", template: "Шаблон", language: "Язык", screen: "Экран",
  light: "Светлый", dark: "Тёмный", desktop: "Компьютер", phone: "Телефон", plain_text: "Простой текст", subject: "Тема",
  no_templates: "Шаблонов нет.",
  metrics: "Метрики", token_title: "Токен этого pgmqd",
  token_text: "Он нужен для изменений и чтобы читать содержимое сообщений. Это http_token в настройках; он остаётся только в этой вкладке.",
  token_label: "Токен", token_save: "Применить", token_forget: "Забыть", token_wrong: "Токен не подходит.",
  token_unset: "У этого pgmqd нет токена: задайте http_token или PGMQD_HTTP_TOKEN в его окружении.", cancel: "Отмена", close: "Закрыть",
  deaf: "Уведомления не доходят (между нами пулер транзакций?): очереди опрашиваются.",
  db_down: "База данных сейчас не отвечает: длины очередей на {time}.", db_down_new: "База данных сейчас не отвечает.",
  process_down: "{name}: не работает ({state}).", process_silent: "{name}: не подаёт признаков жизни.",
  process_unconnected: "{name}: нет связи с базой данных.", crash: "{name}: падает снова и снова, перезапускаем время от времени.",
  config: "{name}: с такими настройками работать нельзя.", needs_token: "Этому pgmqd нужен токен.",
  give_token: "Ввести токен", s: "с", ms: "мс", min: "мин", h: "ч", d: "д", version: "pgmqd {version}, работает {uptime}",
  error: "Не получилось: {message}",
};

const all = { en, ru };

export let lang = localStorage.getItem("lang") || (navigator.language || "en").slice(0, 2);
if (!all[lang]) lang = "en";

// Says a word in the page's language; {name} is replaced.
export function t(word, values) {
  let text = all[lang][word] ?? en[word] ?? word;
  for (const key in values ?? {}) text = text.replaceAll(`{${key}}`, values[key]);
  return text;
}

export function setLang(next) {
  lang = next;
  localStorage.setItem("lang", next);
  document.documentElement.lang = next;
}

// Numbers, durations and times as the language writes them.
export const number = (n, digits = 0) => n == null ? "–" : new Intl.NumberFormat(lang, { maximumFractionDigits: digits, notation: n >= 1e6 ? "compact" : "standard" }).format(n);

export function duration(seconds) {
  if (seconds == null) return "–";
  const nb = "\u00a0";
  if (seconds < 0.00005) return `0${nb}${t("ms")}`;
  if (seconds < 1) return `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)}${nb}${t("ms")}`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)}${nb}${t("s")}`;
  if (seconds < 3600) return `${number(Math.floor(seconds / 60))}${nb}${t("min")}`;
  if (seconds < 86400) return `${number(Math.floor(seconds / 3600))}${nb}${t("h")} ${number(Math.floor(seconds % 3600 / 60))}${nb}${t("min")}`;
  return `${number(Math.floor(seconds / 86400))}${nb}${t("d")} ${number(Math.floor(seconds % 86400 / 3600))}${nb}${t("h")}`;
}

export const time = iso => iso == null ? "–" : new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
export const clock = date => new Intl.DateTimeFormat(lang, { timeStyle: "medium" }).format(date);

// "in 5 min", "2 h ago".
export function ago(iso) {
  if (iso == null) return "–";
  const s = (new Date(iso) - Date.now()) / 1000, f = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]])
    if (Math.abs(s) >= size) return f.format(Math.round(s / size), unit);
  return f.format(Math.round(s), "second");
}
