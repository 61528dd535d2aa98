/* words.c: every word that a report says by itself, in each language. */
#include "config.h"

#include "words.h"

#include <string.h>

static const struct words words[] = {
	[LANG_RU] = {
		.tag = "ru-RU",
		.title = "Результаты обследования",
		.subject = "Отчёт об обследовании",
		.for_nobody = "Личный отчёт",
		.number = "Отчёт №\u00a0{1}",
		.summary = "Итог",
		.areas = "Результаты по областям",
		.advice = "Рекомендации",
		.results = "Подробные результаты",
		.out_of = "из\u00a0100",
		.total = "Ваш общий результат — {1} из\u00a0100.",
		.strong = "Сильные стороны: {1}.",
		.weak = "Больше всего внимания сейчас просят: {1}.",
		.no_answers = "В этом обследовании нет ответов, которые можно показать.",
		.no_score = "Общий результат для этого обследования не рассчитан.",
		.column = { "Показатель", "Ваш результат", "Ориентир", "Оценка" },
		.level = { "", "в норме", "можно лучше", "нужно внимание", "ниже нормы", "выше нормы" },
		.area_level = { "", "хорошо", "можно лучше", "нужно внимание", "", "" },
		.verdict = { "", "Хорошо", "Можно лучше", "Нужно внимание", "", "" },
		.continued = "{1} (продолжение)",
		.unanswered = "Без ответа: {1}.",
		.more = "И ещё {1} — в вашем личном кабинете.",
		.page = "стр. {1} из {2}",
		.other_area = "Другие ответы",
		.note = "Отчёт составлен по вашим ответам и измерениям. Он помогает подготовиться "
			"к разговору с врачом, но не заменяет консультацию и не является диагнозом. "
			"Если самочувствие ухудшилось, обратитесь к врачу.",
		.comprehensive = "Комплексное обследование",
	},
	[LANG_EN] = {
		.tag = "en-GB",
		.title = "Your check-up results",
		.subject = "Check-up report",
		.for_nobody = "Personal report",
		.number = "Report No.\u00a0{1}",
		.summary = "Summary",
		.areas = "Scores by area",
		.advice = "Recommendations",
		.results = "Detailed results",
		.out_of = "out of 100",
		.total = "Your overall result is {1} out of\u00a0100.",
		.strong = "Strengths: {1}.",
		.weak = "Most in need of attention now: {1}.",
		.no_answers = "This check-up has no answers that could be shown.",
		.no_score = "There is no overall result for this check-up.",
		.column = { "Measure", "Your result", "Reference", "Rating" },
		.level = { "", "in range", "could be better", "needs attention", "below range", "above range" },
		.area_level = { "", "good", "could be better", "needs attention", "", "" },
		.verdict = { "", "Good", "Could be better", "Needs attention", "", "" },
		.continued = "{1} (continued)",
		.unanswered = "Not answered: {1}.",
		.more = "And {1} more, in your account.",
		.page = "page {1} of {2}",
		.other_area = "Other answers",
		.note = "This report is based on your answers and measurements. It helps you prepare "
			"for a talk with your doctor; it is no diagnosis and does not replace one. "
			"If you feel worse, see a doctor.",
		.comprehensive = "Comprehensive check-up",
	},
};

enum lang words_lang(const char *tag)
{
	return tag != NULL && strncmp(tag, "ru", 2) == 0 && (tag[2] == '\0' || tag[2] == '-') ? LANG_RU : LANG_EN;
}

const struct words *words_of(enum lang lang)
{
	return &words[lang];
}
